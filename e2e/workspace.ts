import { execFile } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

/** The repository's root folder. */
export const root = fileURLToPath(new URL("..", import.meta.url));

/** The fields of a package.json that the checks read. */
export interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly description?: string;
  readonly keywords?: readonly string[];
  readonly license?: string;
  readonly author?: string;
  readonly homepage?: string;
  readonly repository?: Readonly<{ type: string; url: string; directory?: string }>;
  readonly bugs?: Readonly<{ url: string }>;
  readonly engines?: Readonly<Record<string, string>>;
  readonly sideEffects?: boolean | readonly string[];
  readonly main?: string;
  readonly types?: string;
  readonly files?: readonly string[];
  readonly exports: Readonly<Record<string, unknown>>;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly peerDependencies?: Readonly<Record<string, string>>;
}

/** A package of this repository that is published. */
export interface PublishedPackage {
  readonly folder: string;
  readonly manifest: Manifest;
}

/** Every published package, in the order of their folders' names. */
export const publishedPackages: readonly PublishedPackage[] = readdirSync(join(root, "packages"))
  .map((name) => join(root, "packages", name))
  .map((folder) => ({ folder, manifest: JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as Manifest }));

/** Where a package's tarball lies in the folder that they were packed into: npm's own naming. */
export function tarballOf({ name, version }: Manifest, folder: string): string {
  return join(folder, `${name.replace("@", "").replace("/", "-")}-${version}.tgz`);
}

/**
 * Runs a program and resolves to what it printed on its standard output.
 * Rejects, with all of its output in the message, where its exit code is not 0.
 */
export async function run(command: string, args: readonly string[], cwd: string = root): Promise<string> {
  try {
    const { stdout } = await promisify(execFile)(command, args, { cwd, maxBuffer: 64 * 1024 * 1024 });
    return stdout;
  } catch (error) {
    const { stdout = "", stderr = "" } = error as { stdout?: string; stderr?: string };
    throw new Error(`${command} ${args.join(" ")} failed:\n${stdout}${stderr}`, { cause: error });
  }
}

/** Runs npm, by the program that runs this if npm does: on Windows the command `npm` is no program. */
export function npm(args: readonly string[], cwd: string = root): Promise<string> {
  const { npm_execpath: program } = process.env;
  return program === undefined ? run("npm", args, cwd) : run(process.execPath, [program, ...args], cwd);
}

/** Runs the command of an installed package; what npm puts into node_modules/.bin for it is no program on Windows. */
export function command(packageName: string, args: readonly string[], cwd: string = root): Promise<string> {
  const folder = join(root, "node_modules", packageName);
  const { bin } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as {
    bin: string | Readonly<Record<string, string>>;
  };
  const program = typeof bin === "string" ? bin : Object.values(bin)[0]!;
  return run(process.execPath, [join(folder, program), ...args], cwd);
}
