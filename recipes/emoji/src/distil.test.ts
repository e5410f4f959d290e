import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as ort from "onnxruntime-node";
import type { HostParams } from "@sdxs/tensor";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadEmojiDataset, type EmojiDataset } from "./dataset.js";
import { distil, type Student } from "./distil.js";
import { randomTeacher, tinyUNet } from "./random-teacher.test-support.js";
import type { Teacher } from "./teacher.js";

const backend = onnxBackend({ ort, threads: 1 });
const budget = { pairs: 32, decoderSteps: 2, ganSteps: 2, encoderSteps: 2, warmupSteps: 2, scoreSteps: 2 };

describe("distil", () => {
  let dataset: EmojiDataset;
  let teacher: Teacher;
  let whole: Student;
  const folders: string[] = [];

  async function run(folder: string, options: { seed?: number; abortAt?: [stage: string, step: number] } = {}) {
    const abort = new AbortController();
    return distil({
      backend,
      teacher,
      dataset,
      seed: options.seed ?? 1,
      budget,
      tiny: tinyUNet(teacher),
      workFolder: folder,
      signal: abort.signal,
      onProgress: (stage, { step }) => {
        if (stage === options.abortAt?.[0] && step === options.abortAt[1]) abort.abort();
      },
    });
  }

  async function newFolder(): Promise<string> {
    const folder = await mkdtemp(join(tmpdir(), "sdxs-distil-"));
    folders.push(folder);
    return folder;
  }

  const numbers = (params: HostParams) => Object.entries(params).map(([name, { data }]) => [name, data]);

  beforeAll(async () => {
    dataset = await loadEmojiDataset({ concepts: ["banana"] });
    teacher = await randomTeacher();
    whole = await run(await newFolder());
  });
  afterAll(() => Promise.all(folders.map((folder) => rm(folder, { recursive: true }))));

  it("gives the same student for the same seed, bit for bit, and another for another", async () => {
    const again = await run(await newFolder());
    expect(numbers(again.unet.params)).toEqual(numbers(whole.unet.params));
    expect(numbers(again.decoder)).toEqual(numbers(whole.decoder));
    const other = await run(await newFolder(), { seed: 2 });
    expect(numbers(other.decoder)).not.toEqual(numbers(whole.decoder));
  });

  it.each([
    ["tiny decoder", 1],
    ["tiny decoder, GAN", 1],
    ["tiny encoder", 1],
    ["one-step student", 1],
    ["score distillation", 1],
  ] as const)("goes on where it was interrupted: in %s after step %i", async (...abortAt) => {
    const folder = await newFolder();
    await expect(run(folder, { abortAt })).rejects.toThrow();
    const resumed = await run(folder);
    expect(numbers(resumed.unet.params)).toEqual(numbers(whole.unet.params));
    expect(numbers(resumed.decoder)).toEqual(numbers(whole.decoder));
    expect(numbers(resumed.encoder!)).toEqual(numbers(whole.encoder!));
  });
});
