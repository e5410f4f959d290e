import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as ort from "onnxruntime-node";
import { HostTensor, random } from "@sdxs/tensor";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { noiseLevelAt } from "@sdxs/diffusion";
import { afterAll, describe, expect, it } from "vitest";
import { distilTinyUNet, distillations, noisyPairs, type Distillation } from "./distillations.js";
import { encodePrompts } from "../distil.js";
import { schedule } from "../../../diffusion-model.js";
import { randomTeacher } from "../random-teacher.test-support.js";
import { quickstartPrompts } from "../quickstart-subset.js";
import { pickPrompts } from "../evaluation/pick-prompts.js";

describe("distilTinyUNet", () => {
  const backend = onnxBackend({ ort, threads: 1 });
  const folders: string[] = [];
  afterAll(() => Promise.all(folders.map((folder) => rm(folder, { recursive: true }))));

  /** The values that two steps of the training learn. */
  async function train(distillation: Distillation, options: { folder?: string; abortAt?: number } = {}) {
    const workFolder = options.folder ?? (await mkdtemp(join(tmpdir(), "sdxs-tiny-unet-")));
    if (!folders.includes(workFolder)) folders.push(workFolder);
    const abort = new AbortController();
    const onProgress = (_stage: string, { step }: { step: number }): void => {
      if (step === options.abortAt) abort.abort();
    };
    const stage = { backend, teacher: await randomTeacher(), seed: 1, workFolder, signal: abort.signal, onProgress };
    const pairs = {
      noise: random("noise").normal([4, 4, 16, 16]),
      target: random("target").normal([4, 4, 16, 16]),
      context: await encodePrompts(backend, stage.teacher, ["a banana", "a car", "a rose", "a star"]),
    };
    const { unet } = await distilTinyUNet(stage, pairs, distillation, 2);
    return Object.entries(unet.params).map(([name, { data }]) => [name, data]);
  }

  it("goes on where it was interrupted, to the same weights", async () => {
    const whole = await train("Equation 8");
    const folder = await mkdtemp(join(tmpdir(), "sdxs-tiny-unet-"));
    await expect(train("Equation 8", { folder, abortAt: 1 })).rejects.toThrow();
    expect(await train("Equation 8", { folder })).toEqual(whole);
  });

  it("learns something else in each way", async () => {
    const learned: unknown[] = [];
    for (const name of Object.keys(distillations) as Distillation[]) learned.push(await train(name));
    for (const [index, values] of learned.entries()) expect(learned.slice(index + 1)).not.toContainEqual(values);
  });
});

describe("noisyPairs", () => {
  // Each clean sample is one number throughout, and so is its context.
  const rows = Array.from({ length: 5 }, (_, row) => row);
  const pairs = {
    noise: HostTensor.filled([5, 4, 16, 16], 0),
    target: HostTensor.from(
      [5, 4, 16, 16],
      rows.flatMap((row) => Array<number>(1024).fill(row + 1)),
    ),
    context: HostTensor.from(
      [5, 2, 3],
      rows.flatMap((row) => Array<number>(6).fill(row + 1)),
    ),
  };
  const empty = HostTensor.filled([1, 2, 3], -1);
  const draw = (share: number) => noisyPairs(pairs, random(1), { share, context: empty });

  it("mix each sample with noise at its timestep and keep its context", () => {
    const { sample, timestep, encoderHiddenStates } = draw(0);
    timestep.data.forEach((t, row) => {
      const { alpha, sigma } = noiseLevelAt(schedule, t);
      const context = encoderHiddenStates.data.subarray(6 * row, 6 * row + 6);
      expect(new Set(context).size).toBe(1);
      const noise = Array.from(
        sample.data.subarray(1024 * row, 1024 * (row + 1)),
        (value) => (value - alpha * (context[0] ?? NaN)) / sigma,
      );
      const mean = noise.reduce((sum, value) => sum + value / 1024, 0);
      const variance = noise.reduce((sum, value) => sum + (value - mean) ** 2 / 1024, 0);
      expect(Math.abs(mean)).toBeLessThan(0.16); // 5 standard errors
      expect(Math.abs(variance - 1)).toBeLessThan(0.22);
    });
  });

  it("ask for the empty prompt in the given share of samples, and change nothing else", () => {
    const [none, some, all] = [draw(0), draw(0.5), draw(1)];
    expect(all.encoderHiddenStates.data.every((value) => value === -1)).toBe(true);
    expect(new Set(some.encoderHiddenStates.data)).toContain(-1);
    expect(new Set(some.encoderHiddenStates.data).size).toBeGreaterThan(1);
    expect(all.sample).toEqual(none.sample);
    expect(all.timestep).toEqual(none.timestep);
  });
});

describe("pickPrompts", () => {
  it("begins with the quickstart's and takes others at random, each once", () => {
    const all = [...quickstartPrompts, ...Array.from({ length: 90 }, (_, i) => `prompt ${i}`)];
    const picked = pickPrompts(all, 30, 1);
    expect(picked.slice(0, 10)).toEqual(quickstartPrompts);
    expect(new Set(picked).size).toBe(30);
    expect(pickPrompts(all, 30, 2).slice(0, 10)).toEqual(quickstartPrompts);
    expect(pickPrompts(all, 30, 2)).not.toEqual(picked);
    expect(pickPrompts(all, 1000, 1)).toHaveLength(100);
  });
});
