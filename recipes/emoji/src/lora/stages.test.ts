import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { mergeLora } from "@sdxs/lora";
import { initialize, random } from "@sdxs/tensor";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { copyParameters, unetParameters } from "@sdxs/tiny-unet";
import * as ort from "onnxruntime-node";
import { expect, it } from "vitest";
import { loadEmojiDataset } from "../dataset.js";
import { encodePrompts, studentPlan } from "../distil.js";
import { latentSpec } from "../networks.js";
import { randomTeacher } from "../random-teacher.test-support.js";
import { distilLora, trainStyleLora, withLora } from "./stages.js";

it("a style's LoRA of the teacher becomes one of the student, and changes both", async () => {
  const backend = onnxBackend({ ort, threads: 1 });
  const teacher = await randomTeacher();
  const options = { backend, teacher, seed: 1, workFolder: await mkdtemp(join(tmpdir(), "sdxs-lora-")) };
  const plan = studentPlan(teacher);
  const student = { ...initialize(unetParameters(plan.config), 1), ...copyParameters(plan, teacher.unet.params) };
  const dataset = await loadEmojiDataset({ concepts: ["car"], styles: ["fluent-3d"], styleDropRate: 1 });
  expect(dataset.sample(1, 0).caption).not.toMatch(/style/);
  const original = await trainStyleLora(options, dataset, { name: "3d", pictures: 8, steps: 2 });
  const pairs = {
    noise: random(1).normal(latentSpec(8).shape),
    target: random(2).normal(latentSpec(8).shape),
    context: await encodePrompts(backend, teacher, Array<string>(8).fill("a banana")),
  };
  const lora = await distilLora(options, pairs, student, original, { name: "3d", steps: 2 });
  const changed = (before: typeof student, after: typeof student): string[] =>
    Object.keys(before).filter((name) => before[name]!.data.some((value, i) => value !== after[name]!.data[i]));
  const weights = Object.keys(lora.alphas).map((layer) => `${layer}.weight`);
  expect(changed(student, mergeLora(student, [lora])).sort()).toEqual(weights.sort());
  const styled = changed(teacher.unet.params, withLora(teacher, original).unet.params);
  expect(styled).toContain("mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight");
  await rm(options.workFolder, { recursive: true });
});
