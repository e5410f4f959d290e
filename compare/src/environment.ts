import { spawn, spawnSync } from "node:child_process";
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { InvalidArgumentError, SdxsError } from "@sdxs/tensor";

/** How to start a Python that has diffusers: a shell line before it, and the interpreter. */
export interface PythonEnvironment {
  readonly setup: string;
  readonly python: string;
}

/**
 * @param place a folder with env.sh, which is sourced; a virtual environment, whose bin/python is taken; or an interpreter
 * @param python the interpreter beside an env.sh. Default: the first of python3 and /usr/bin/python3 that has diffusers
 * @throws InvalidArgumentError where there is no diffusers
 */
export function findEnvironment(place: string, python?: string): PythonEnvironment {
  const isFolder = existsSync(place) && statSync(place).isDirectory();
  const setup = isFolder && existsSync(join(place, "env.sh")) ? `. ${quoted(join(place, "env.sh"))} && ` : "";
  const own = isFolder ? join(place, "bin", "python") : place;
  const candidates = python !== undefined ? [python] : setup === "" ? [own] : ["python3", "/usr/bin/python3"];
  for (const candidate of candidates) {
    const line = `${setup}exec ${quoted(candidate)} -c "import diffusers, transformers"`;
    if (spawnSync("bash", ["-c", line], { stdio: "ignore" }).status === 0) return { setup, python: candidate };
  }
  throw new InvalidArgumentError(
    `${candidates.join(" and ")} of ${place} cannot import diffusers and transformers. ` +
      `Give a virtual environment, an interpreter, or a folder with env.sh: pip install diffusers==0.27.2 transformers torch.`,
  );
}

/**
 * Runs a script and gives its lines as they come.
 *
 * @throws SdxsError with code BACKEND_FAILURE and the end of what it says, where it fails
 */
export async function* runPython(
  { setup, python }: PythonEnvironment,
  args: readonly string[],
): AsyncGenerator<string, void, undefined> {
  const line = `${setup}exec ${[python, ...args].map(quoted).join(" ")}`;
  const child = spawn("bash", ["-c", line], { stdio: ["ignore", "pipe", "pipe"] });
  let complaints = "";
  child.stderr.on("data", (chunk: Buffer) => (complaints = (complaints + chunk.toString()).slice(-4000)));
  const ended = new Promise<number | null>((resolve, reject) => child.on("error", reject).on("close", resolve));
  for await (const text of createInterface({ input: child.stdout })) yield text;
  if ((await ended) !== 0) throw new SdxsError("BACKEND_FAILURE", `${args.join(" ")} failed:\n${complaints}`);
}

/** A word of a shell's line. */
const quoted = (word: string): string => `'${word.replaceAll("'", `'\\''`)}'`;
