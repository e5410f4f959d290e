import { readdir } from "node:fs/promises";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { InvalidArgumentError, SdxsError } from "@sdxs/tensor";
import { testBackends, type CaseResult, type RunOnce } from "@sdxs/tensor/reference-case";
import { checkOf } from "./cases.js";
import { reportCase, reportError, type CaseReport } from "./report.js";

/** Names on the command line of what runs the tests. */
const backends = [
  { name: "onnx", open: opened("onnx") },
  { name: "tfjs-wasm", open: opened("tfjs") },
] as const;

const USAGE = `Usage: npm run golden -- [DIR] [--backends ${backends.map(({ name }) => name).join(",")}]
  DIR              a folder of cases that diffusers computed, default ../shared/golden
  --backends LIST  where to run them, default all`;

/**
 * Checks every case in a folder and prints a line for each and each backend.
 * Returns the exit code: 0 where all agree, 1 where one does not or has no check, 2 for arguments that cannot be used.
 */
export async function golden(args: readonly string[], print: (line: string) => void): Promise<number> {
  try {
    const { folder, chosen } = parseGoldenArguments(args);
    const names = await caseNames(folder);
    const runs = await Promise.all(chosen.map(async (backend) => ({ ...backend, run: await backend.open() })));
    let failed = 0;
    let ok = 0;
    for (const name of names) {
      for await (const report of checkFolder(name, new URL(`${encodeURIComponent(name)}/`, folder), runs)) {
        for (const line of report.lines) print(line);
        if (report.ok) ok++;
        else failed++;
      }
    }
    print(`${ok} ok, ${failed} failed`);
    return failed === 0 ? 0 : 1;
  } catch (error) {
    if (!(error instanceof SdxsError)) throw error;
    print(`golden: ${error.message}\n\n${USAGE}`);
    return 2;
  }
}

interface OpenedBackend {
  readonly name: string;
  readonly run: RunOnce;
}

async function* checkFolder(name: string, folder: URL, runs: readonly OpenedBackend[]): AsyncGenerator<CaseReport> {
  const found = checkOf(folder);
  if (found === undefined) yield reportError(name, "-", "no check for a case of this name");
  else if (found.needs === "nothing") yield report(name, "-", found.check);
  else for (const { name: backend, run } of runs) yield report(name, backend, () => found.check(run));
}

async function report(name: string, backend: string, check: () => Promise<CaseResult>): Promise<CaseReport> {
  try {
    return reportCase(name, backend, await check());
  } catch (error) {
    const message = error instanceof SdxsError ? error.message : error instanceof Error ? error.stack : undefined;
    return reportError(name, backend, message ?? String(error));
  }
}

function parseGoldenArguments(args: readonly string[]) {
  const { values, positionals } = read(args);
  if (positionals.length > 1)
    throw new InvalidArgumentError(`one folder is expected, got ${positionals.join(" and ")}.`);
  const wanted = values.backends?.split(",") ?? backends.map(({ name }) => name);
  const chosen = wanted.map((name) => {
    const backend = backends.find((candidate) => candidate.name === name);
    if (backend) return backend;
    const names = backends.map((candidate) => candidate.name).join(" and ");
    throw new InvalidArgumentError(`--backends takes ${names}, separated by commas, got "${name}".`);
  });
  return { folder: pathToFileURL(`${resolve(positionals[0] ?? "../shared/golden")}/`), chosen };
}

function read(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], allowPositionals: true, options: { backends: { type: "string" } } });
  } catch (cause) {
    throw new InvalidArgumentError(cause instanceof Error ? cause.message : String(cause), { cause });
  }
}

/** The folders in a folder, in order. */
async function caseNames(folder: URL): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch((cause: unknown) => {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new InvalidArgumentError(`DIR must be a folder of cases: ${reason}`, { cause });
  });
  const names = entries.filter((entry) => entry.isDirectory() && !entry.name.startsWith(".")).map(({ name }) => name);
  if (names.length === 0) throw new InvalidArgumentError(`DIR holds no folder, so no case.`);
  return names.sort();
}

function opened(name: (typeof testBackends)[number]["name"]): () => Promise<RunOnce> {
  return () => testBackends.find((backend) => backend.name === name)!.run();
}
