import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { random } from "@sdxs/tensor";
import { fileCheckpoints } from "./file-checkpoints.js";

const root = fileURLToPath(new URL("../../../", import.meta.url));
const STEPS = 60;
let directory: string;
let program: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "killed-run-"));
  program = join(directory, "program.cjs");
  await build({
    entryPoints: [fileURLToPath(new URL("./killed-run.test-support.ts", import.meta.url))],
    tsconfig: join(root, "tsconfig.json"),
    bundle: true,
    platform: "node",
    format: "cjs",
    external: ["onnxruntime-node"],
    outfile: program,
    logLevel: "error",
  });
});
afterAll(() => rm(directory, { recursive: true }));

interface Run {
  readonly signal: NodeJS.Signals | null;
  readonly exitCode: number | null;
  readonly errors: string;
  /** Completed steps that it reported. */
  readonly steps: readonly number[];
}

/** Runs the training; `killAt` says when, after how many reported steps and milliseconds, it is killed. */
async function run(
  folder: string,
  options: { killAt?: { steps: number; delayMs: number }; dieWhileSavingStep?: number; fileSizeLimitKb?: number } = {},
): Promise<Run> {
  const { killAt, dieWhileSavingStep, fileSizeLimitKb } = options;
  const command = [process.execPath, program, join(directory, folder), STEPS, dieWhileSavingStep ?? ""];
  const limit = fileSizeLimitKb === undefined ? "" : `ulimit -f ${fileSizeLimitKb}; `;
  const child = spawn("bash", ["-c", `${limit}exec ${command.join(" ")}`], {
    env: { ...process.env, NODE_PATH: join(root, "node_modules") },
  });
  const steps: number[] = [];
  let errors = "";
  child.stderr.on("data", (text) => (errors += String(text)));
  child.stdout.on("data", (text) => {
    const before = steps.length;
    steps.push(...[...String(text).matchAll(/step (\d+)/g)].map(([, step]) => Number(step)));
    if (killAt && before < killAt.steps && steps.length >= killAt.steps) {
      setTimeout(() => child.kill("SIGKILL"), killAt.delayMs);
    }
  });
  const [exitCode, signal] = (await once(child, "close")) as [number | null, NodeJS.Signals | null];
  return { exitCode, signal, errors, steps };
}

const content = (folder: string, file: string): Promise<Buffer> => readFile(join(directory, folder, file));

describe("a training that is killed", () => {
  let whole: Run;
  beforeAll(async () => {
    whole = await run("whole");
  }, 120_000);

  it("takes all its steps if it is not killed", () => {
    expect(whole).toMatchObject({ exitCode: 0, errors: "" });
    expect(whole.steps).toEqual(Array.from({ length: STEPS }, (_, index) => index + 1));
  });

  it("ends with the same weights and history, bit for bit, however often and whenever it is killed", async () => {
    const moments = random(3, "moments");
    let last: Run | undefined;
    let kills = 0;
    for (; last?.exitCode !== 0 && kills < 40; kills++) {
      const [steps = 1, delayMs = 0] = moments.at(kills).uniform([2]).data;
      last = await run("killed", { killAt: { steps: 1 + Math.floor(12 * steps), delayMs: 15 * delayMs } });
      if (last.exitCode !== 0) expect(last).toMatchObject({ signal: "SIGKILL", errors: "" });
    }
    expect(kills).toBeGreaterThan(4);
    expect(last?.exitCode).toBe(0);
    expect(await content("killed", "weights.safetensors")).toEqual(await content("whole", "weights.safetensors"));
    expect(await content("killed", "metrics.csv")).toEqual(await content("whole", "metrics.csv"));
  });

  it("resumes from the checkpoint before the one that was half written, with the same end", async () => {
    const killed = await run("saving", { dieWhileSavingStep: 8 });
    expect(killed).toMatchObject({ signal: "SIGKILL" });
    const files = await readdir(join(directory, "saving", "checkpoints"));
    expect(files.filter((name) => name.endsWith(".partial"))).toHaveLength(1);
    expect(await fileCheckpoints(join(directory, "saving", "checkpoints")).newest()).toMatchObject({ step: 6 });

    const resumed = await run("saving");
    expect(resumed.steps[0]).toBe(7);
    expect(await content("saving", "weights.safetensors")).toEqual(await content("whole", "weights.safetensors"));
    expect(await content("saving", "metrics.csv")).toEqual(await content("whole", "metrics.csv"));
    expect(await readdir(join(directory, "saving", "checkpoints"))).toEqual([
      "step-000000058.safetensors",
      "step-000000060.safetensors",
    ]);
  });

  it("says clearly that a checkpoint does not fit on the disk and keeps the one before", async () => {
    const killed = await run("full", { killAt: { steps: 6, delayMs: 0 } });
    expect(killed.signal).toBe("SIGKILL");
    const before = await fileCheckpoints(join(directory, "full", "checkpoints")).newest();

    const full = await run("full", { fileSizeLimitKb: 8 }); // the state takes about 12 kB
    expect(full.exitCode).toBe(1);
    expect(full.errors).toMatch(/FILE_FAILURE/);
    expect(full.errors).toContain(join(directory, "full", "checkpoints", "step-"));
    expect(await fileCheckpoints(join(directory, "full", "checkpoints")).newest()).toEqual(before);

    const resumed = await run("full");
    expect(resumed.exitCode).toBe(0);
    expect(await content("full", "weights.safetensors")).toEqual(await content("whole", "weights.safetensors"));
  });
});
