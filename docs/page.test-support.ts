import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import ts from "typescript";

const root = fileURLToPath(new URL("..", import.meta.url));

/** A fenced block of a page: "```ts FILE" shows a whole file, "```diff FILE" changes one, "```ts" alone is the program. */
export interface Block {
  readonly language: string;
  readonly file: string | undefined;
  readonly text: string;
}

/** The repository's files as they are after a page's changes: path from the root to text. */
export type Changes = ReadonlyMap<string, string>;

/** A page's text, or one section of it: what stands between a heading and the next. */
export function readPage(name: string, heading?: string): string {
  const text = readFileSync(new URL(name, import.meta.url), "utf8");
  if (heading === undefined) return text;
  const section = text.split(/^## /m).find((part) => part.startsWith(`${heading}\n`));
  if (section === undefined) throw new Error(`${name} has no section "${heading}".`);
  return section;
}

export function blocksOf(markdown: string): readonly Block[] {
  const fences = markdown.matchAll(/^```(ts|diff)(?: (\S+))?\n(.*?)^```$/gms);
  return [...fences].map(([, language = "", file, text = ""]) => ({ language, file, text }));
}

/** Applies the blocks that name a file. Throws where the lines that a diff keeps or removes are not in its file once. */
export function applyBlocks(blocks: readonly Block[]): Changes {
  const changes = new Map<string, string>();
  for (const { language, file, text } of blocks) {
    if (file === undefined) continue;
    const before = changes.get(file);
    changes.set(
      file,
      language === "diff" ? patched(file, before ?? readFileSync(join(root, file), "utf8"), text) : text,
    );
  }
  return changes;
}

function patched(file: string, source: string, diff: string): string {
  // Lines that are left out between two parts of a diff are shown as "...".
  return diff.split(/^\.\.\.\n/m).reduce((text, hunk) => {
    const lines = hunk.trimEnd().split("\n");
    const without = (sign: string): string =>
      lines
        .filter((line) => !line.startsWith(sign))
        .map((line) => `${line.slice(1)}\n`)
        .join("");
    const parts = text.split(without("+"));
    if (parts.length !== 2) {
      throw new Error(`${file} has ${parts.length - 1} places like this one, expected 1:\n${without("+")}`);
    }
    return parts.join(without("-"));
  }, source);
}

/** Files that no page changes, which all programs share. */
const parsed = new Map<string, ts.SourceFile | undefined>();

/** Files of the repository, by path from its root, in which the compiler finds errors after the changes, sorted. */
export function filesWithErrors(changes: Changes, roots: readonly string[]): readonly string[] {
  const { config } = ts.readConfigFile(join(root, "tsconfig.json"), (file) => ts.sys.readFile(file)) as {
    config: object;
  };
  const { options } = ts.parseJsonConfigFileContent({ ...config, include: [], files: [] }, ts.sys, root);
  const host = ts.createCompilerHost({ ...options, noEmit: true });
  const changed = (path: string): string | undefined => changes.get(relative(root, path));
  const original = { ...host };
  host.fileExists = (path) => changed(path) !== undefined || original.fileExists(path);
  host.readFile = (path) => changed(path) ?? original.readFile(path);
  host.getSourceFile = (path, ...rest) => {
    if (changed(path) !== undefined) return original.getSourceFile(path, ...rest);
    if (!parsed.has(path)) parsed.set(path, original.getSourceFile(path, ...rest));
    return parsed.get(path);
  };
  const files = [...roots, ...changes.keys()].map((file) => join(root, file));
  const program = ts.createProgram(files, { ...options, noEmit: true }, host);
  const errors = [...program.getSyntacticDiagnostics(), ...program.getSemanticDiagnostics()];
  return [...new Set(errors.map(({ file }) => relative(root, file?.fileName ?? root)))].sort();
}

/** Runs a page's program against the changed sources, and returns what it prints and what it says it prints. */
export async function runProgram(
  markdown: string,
  changes: Changes,
): Promise<{ readonly printed: readonly string[]; readonly expected: readonly string[] }> {
  const program = blocksOf(markdown).find(({ language, file }) => language === "ts" && file === undefined);
  if (!program) throw new Error("The page has no program.");
  // In the repository, where Node finds the packages that the program imports.
  mkdirSync(join(root, "tmp"), { recursive: true });
  const folder = mkdtempSync(join(root, "tmp/page-"));
  try {
    const outfile = join(folder, "program.mjs");
    await build({
      stdin: { contents: program.text, loader: "ts", resolveDir: join(root, "docs"), sourcefile: "page.ts" },
      outfile,
      bundle: true,
      format: "esm",
      platform: "node",
      logLevel: "silent",
      external: ["onnxruntime-node", "@tensorflow/tfjs"],
      plugins: [
        {
          name: "changed-sources",
          setup(bundle) {
            bundle.onResolve({ filter: /^@sdxs\// }, ({ path }) => {
              const [, name = "", entry = "index"] = path.split("/");
              return { path: join(root, "packages", name, "src", `${entry}.ts`) };
            });
            // TypeScript's "./file.js" is "./file.ts", which may be in the changes alone.
            bundle.onResolve({ filter: /^\.{1,2}\/.*\.js$/ }, ({ path, importer }) => ({
              path: join(importer === "page.ts" ? join(root, "docs") : dirname(importer), path.replace(/js$/, "ts")),
            }));
            bundle.onLoad({ filter: /\.ts$/ }, ({ path }) => ({
              contents: changes.get(relative(root, path)) ?? readFileSync(path, "utf8"),
              loader: "ts",
            }));
          },
        },
      ],
    });
    const { stdout, stderr, status } = spawnSync(process.execPath, [outfile], { encoding: "utf8" });
    if (status !== 0) throw new Error(`The page's program failed:\n${stdout}${stderr}`);
    const expected = [...program.text.matchAll(/\/\/ => ?(.*)$/gm)].map(([, line = ""]) => line);
    return { printed: stdout.trimEnd().split("\n"), expected };
  } finally {
    rmSync(folder, { recursive: true });
  }
}
