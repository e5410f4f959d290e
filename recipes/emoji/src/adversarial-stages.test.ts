import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as ort from "onnxruntime-node";
import { initialize, type HostParams } from "@sdxs/tensor";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { unetParameters } from "@sdxs/tiny-unet";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { distilDmd2, finetuneTexture } from "./adversarial-stages.js";
import { loadEmojiDataset } from "./dataset.js";
import { quickstartBudget, samplePairs, studentPlan, type DistillationOptions, type Pairs } from "./distil.js";
import { randomTeacher } from "./random-teacher.test-support.js";

const backend = onnxBackend({ ort, threads: 1 });

describe("the stages with a GAN", () => {
  let options: DistillationOptions<Awaited<ReturnType<typeof backend.upload>>>;
  let pairs: Pairs;
  let student: HostParams;

  beforeAll(async () => {
    const teacher = await randomTeacher();
    const dataset = await loadEmojiDataset({ concepts: ["banana"] });
    const workFolder = await mkdtemp(join(tmpdir(), "sdxs-gan-"));
    options = { backend, teacher, dataset, seed: 1, budget: { ...quickstartBudget, pairs: 32 }, workFolder };
    pairs = await samplePairs(options, { captions: dataset.batch(1, 0, 32).captions });
    student = initialize(unetParameters(studentPlan(teacher).config), 4);
  });
  afterAll(() => rm(options.workFolder, { recursive: true }));

  it("give the student texture by a LoRA", async () => {
    const { params, lora } = await finetuneTexture(options, pairs, student, 2);
    expect(lora.params["down_blocks.0.resnets.0.conv1.lora_A.weight"]?.shape).toEqual([2, 8, 3, 3]);
    const changed = (name: string) => params[name]!.data.some((value, i) => value !== student[name]!.data[i]);
    expect(changed("down_blocks.0.resnets.0.conv1.weight")).toBe(true);
    expect(changed("conv_in.weight")).toBe(false);
  });

  it("distil by DMD2", async () => {
    const params = await distilDmd2(options, student, 1);
    expect(Object.keys(params)).toEqual(Object.keys(student));
    expect(params["conv_in.weight"]).not.toEqual(student["conv_in.weight"]);
  });
});
