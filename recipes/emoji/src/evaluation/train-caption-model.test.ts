import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as ort from "onnxruntime-node";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { trainCaptionModel, type CaptionModelTrainingOptions } from "./train-caption-model.js";

const backend = onnxBackend({ ort, threads: 1 });

describe("trainCaptionModel", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "sdxs-judge-"));
  });
  afterAll(() => rm(folder, { recursive: true }));

  const run = async (
    name: string,
    options: Partial<Pick<CaptionModelTrainingOptions<never>, "signal" | "onProgress">> = {},
  ) => {
    const outputFile = join(folder, `${name}.safetensors`);
    await trainCaptionModel({ backend, workFolder: join(folder, name), outputFile, seed: 1, steps: 2, ...options });
    return readFile(outputFile);
  };

  it("goes on where it was interrupted, to the same weights", async () => {
    const abort = new AbortController();
    const interrupted = run("interrupted", { signal: abort.signal, onProgress: () => abort.abort() });
    await expect(interrupted).rejects.toMatchObject({ code: "ABORTED" });
    const steps: number[] = [];
    const resumed = await run("interrupted", { onProgress: (_stage, { step }) => steps.push(step) });
    expect(steps).toEqual([2]);
    expect(resumed.equals(await run("whole"))).toBe(true);
  });
});
