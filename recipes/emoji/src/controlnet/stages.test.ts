import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { initialize, random, type HostParams, type HostTensor } from "@sdxs/tensor";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { copyParameters, unetParameters } from "@sdxs/tiny-unet";
import * as ort from "onnxruntime-node";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadEmojiDataset } from "../dataset.js";
import { encodePrompts, studentPlan } from "../distil.js";
import { latentSpec } from "../networks.js";
import { randomTeacher } from "../random-teacher.test-support.js";
import { drawStudent, drawTeacher, drawWithTeachersControlNet } from "./draw.js";
import {
  addConditions,
  distilControlNet,
  trainOneStepControlNet,
  trainTeacherControlNet,
  type TrainedControlNet,
  type Triplets,
} from "./stages.js";
import type { StageOptions } from "../stage.js";

const backend = onnxBackend({ ort, threads: 1 });
const budget = { pictures: 16, steps: 2, warmupSteps: 2, scoreSteps: 1 };

describe("the ControlNet's stages", () => {
  let options: StageOptions<Awaited<ReturnType<typeof backend.upload>>>;
  let student: HostParams;
  let triplets: Triplets;
  let original: TrainedControlNet;
  let tiny: TrainedControlNet;
  let trained: TrainedControlNet;

  beforeAll(async () => {
    const teacher = await randomTeacher();
    options = { backend, teacher, seed: 1, workFolder: await mkdtemp(join(tmpdir(), "sdxs-controlnet-")) };
    const plan = studentPlan(teacher);
    student = { ...initialize(unetParameters(plan.config), 1), ...copyParameters(plan, teacher.unet.params) };
    const pairs = {
      noise: random(1).normal(latentSpec(16).shape),
      target: random(2).normal(latentSpec(16).shape),
      context: await encodePrompts(backend, teacher, Array<string>(16).fill("a banana")),
    };
    triplets = await addConditions(options, pairs, "depth");
    const dataset = await loadEmojiDataset({ concepts: ["banana"] });
    original = await trainTeacherControlNet(options, dataset, "edges", budget);
    tiny = await distilControlNet(options, triplets, student, original, "edges", 2);
    trained = await trainOneStepControlNet(options, triplets, student, original, tiny, {
      name: "edges",
      noiseRedrawShare: 0.5,
      budget,
    });
  });
  afterAll(() => rm(options.workFolder, { recursive: true }));

  const differ = (a: HostTensor, b: HostTensor): boolean => a.data.some((value, i) => value !== b.data[i]);

  it("make of the teacher's ControlNet a tiny one, and of that one for one step", () => {
    const last = "controlnet_down_blocks.0.weight";
    for (const { params } of [original, tiny, trained])
      expect(params[last]!.data.some((value) => value !== 0)).toBe(true);
    expect(differ(tiny.params[last]!, trained.params[last]!)).toBe(true);
    expect(Object.keys(trained.params)).toEqual(Object.keys(tiny.params));
    expect(triplets.condition.shape).toEqual([16, 3, 64, 64]);
  });

  it("guide student and teacher, several together as their weights say", async () => {
    const { condition, context } = triplets;
    const guide = { ...trained, condition };
    const plain = await drawStudent(options, student, triplets, []);
    const silent = await drawStudent(options, student, triplets, [{ ...guide, weight: 0 }]);
    const whole = await drawStudent(options, student, triplets, [guide]);
    const halves = await drawStudent(options, student, triplets, [
      { ...guide, weight: 0.5 },
      { ...guide, weight: 0.5 },
    ]);
    expect(plain.shape).toEqual(latentSpec(16).shape);
    silent.data.forEach((value, i) => expect(value).toBeCloseTo(plain.data[i]!, 4));
    halves.data.forEach((value, i) => expect(value).toBeCloseTo(whole.data[i]!, 4));
    expect(differ(whole, plain)).toBe(true);
    const put = await drawWithTeachersControlNet(options, student, triplets, { ...original, condition });
    expect(differ(put, plain)).toBe(true);
    const drawn = await drawTeacher(options, { context, condition }, original, { name: "pictures", seed: "pictures" });
    expect(drawn.target.shape).toEqual(latentSpec(16).shape);
    expect(drawn.context).toBe(context);
  });
});
