import { existsSync, readFileSync, readdirSync } from "node:fs";
import { basename, join } from "node:path";
import ts from "typescript";
import { describe, expect, test } from "vitest";
import { publishedPackages, root, type Manifest } from "../e2e/workspace.js";

const rootManifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as Manifest;

/** The repository's page: the root's package.json is where it is written, all others follow. */
const repository = rootManifest.homepage?.replace("#readme", "") ?? "";

test("the root names the repository once for all", () => {
  expect(repository).toMatch(/^https:\/\/[^/]+\/[^/]+\/[^/#]+$/);
  expect(rootManifest.repository).toEqual({ type: "git", url: `git+${repository}.git` });
  expect(rootManifest.bugs).toEqual({ url: `${repository}/issues` });
});

describe.each(publishedPackages)("$manifest.name", ({ folder, manifest }) => {
  const name = basename(folder);

  test("says what it is, whose, and where its sources, its page and its issues are", () => {
    expect(manifest).toMatchObject({
      name: `@sdxs/${name}`,
      description: expect.stringMatching(/^[A-Z].{20,120}[^.]$/),
      license: rootManifest.license,
      author: rootManifest.author,
      homepage: `${repository}/tree/main/packages/${name}#readme`,
      repository: { ...rootManifest.repository, directory: `packages/${name}` },
      bugs: rootManifest.bugs,
      engines: rootManifest.engines,
    });
  });

  test("has keywords of its own beside those of all", () => {
    const { keywords = [] } = manifest;
    const others = publishedPackages.filter((other) => other.folder !== folder);
    expect(keywords).toContain("sdxs");
    expect(new Set(keywords).size).toBe(keywords.length);
    expect(others.map((other) => other.manifest.keywords)).not.toContainEqual(keywords);
    expect(keywords.filter((word) => !/^[a-z0-9-]+$/.test(word))).toEqual([]);
  });

  test("has main and types beside exports, which say the same", () => {
    const { require: commonJs } = manifest.exports["."] as { require: { types: string; default: string } };
    expect({ default: manifest.main, types: manifest.types }).toEqual(commonJs);
  });

  test("brings its build and the sources that its declarations are mapped to, without tests", () => {
    const { files = [] } = manifest;
    expect(files).toEqual(
      expect.arrayContaining(["dist", "src/**/*.ts", "!src/**/*.test.ts", "!src/**/*.test-support.ts"]),
    );
  });

  test("acts on nothing where it is only imported, but for the files that it names", () => {
    const { sideEffects } = manifest;
    const named = Array.isArray(sideEffects) ? (sideEffects as string[]) : [];
    expect(sideEffects).not.toBe(undefined);
    expect(sideEffects).not.toBe(true);
    const acting = sourcesOf(folder).filter((file) => actsOnImport(join(folder, file)));
    expect(acting.map((file) => `./${file}`).filter((file) => !named.includes(file))).toEqual([]);
  });

  test("links in its README with full addresses, to files that exist", () => {
    const readme = readFileSync(join(folder, "README.md"), "utf8");
    const link = /\[[^\]]*\]\(([^)\s]+)[^)]*\)|<(?:img|a)\s[^>]*(?:src|href)="([^"]*)"/g;
    const addresses = [...readme.matchAll(link)].map(([, inText, inHtml]) => inText ?? inHtml ?? "");
    expect(addresses.filter((address) => !address.startsWith("https://"))).toEqual([]);
    const own = addresses.filter((address) => address.startsWith(repository));
    const paths = own.map((address) => /^\/(?:blob|tree)\/main\/([^#]*)/.exec(address.slice(repository.length))?.[1]);
    expect(paths.filter((path) => path === undefined || !existsSync(join(root, path)))).toEqual([]);
    // A path alone leads nowhere from the registry's page.
    expect(readme.replace(link, "").match(/docs\/[a-z-]+\.md/g) ?? []).toEqual([]);
  });
});

/** The sources that are built into a package, relative to its folder. */
function sourcesOf(folder: string): string[] {
  return readdirSync(join(folder, "src"), { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".ts") && !/\.test(-support)?\.ts$/.test(file))
    .map((file) => `src/${file.replaceAll("\\", "/")}`);
}

/** Whether a source has a statement outside of any declaration. */
function actsOnImport(file: string): boolean {
  const source = ts.createSourceFile(file, readFileSync(file, "utf8"), ts.ScriptTarget.ES2022);
  return source.statements.some(
    (statement) =>
      !(
        ts.isImportDeclaration(statement) ||
        ts.isExportDeclaration(statement) ||
        ts.isVariableStatement(statement) ||
        ts.isFunctionDeclaration(statement) ||
        ts.isClassDeclaration(statement) ||
        ts.isInterfaceDeclaration(statement) ||
        ts.isTypeAliasDeclaration(statement) ||
        ts.isModuleDeclaration(statement)
      ),
  );
}
