import * as ort from "onnxruntime-node";
import { noiseSchedule, oneStepConversion } from "@sdxs/diffusion";
import { HostTensor, constantSchedule, mapTensors, ones, random, type HostParams } from "@sdxs/tensor";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { memoryCheckpoints, train } from "@sdxs/training";
import { describe, expect, it } from "vitest";
import {
  controlNetScoreDistillationTask,
  controlNetWarmupTask,
  controlTriplets,
  oneStepGenerator,
  type ControlNetScoreDistillationTaskOptions,
  type ControlNetWarmupTaskOptions,
  type ExternalScore,
  type FeatureExtractor,
  type ScoreFunction,
} from "../index.js";

const schedule = noiseSchedule();
const shape = [4, 1, 2, 2];
const number = (name: string, value: number): HostParams => ({ [name]: HostTensor.from([1], [value]) });

/** A network that predicts the clean sample: gain x_t by its U-Net, and strength c by its ControlNet. */
const network: ScoreFunction = (ops, p, { sample, condition }) =>
  ops.add(
    ops.mul(p.at("unet").param("gain", [1], ones), sample),
    ops.mul(p.at("controlnet").param("strength", [1], ones), condition!),
  );
const student = oneStepGenerator(network, oneStepConversion(schedule, { prediction: "sample" }));
const features: FeatureExtractor = (_ops, _p, { sample }) => [sample];
const triplet = {
  noise: random(1).normal(shape),
  target: random(2).normal(shape),
  context: HostTensor.filled([4, 1, 1], 0),
  condition: random(3).normal(shape),
};
const backend = onnxBackend({ ort, threads: 1 });
type D = Awaited<ReturnType<typeof backend.upload>>;

const common = {
  backend,
  seed: 5,
  sampleShape: [1, 2, 2],
  contextShape: [1, 1],
  conditionShape: [1, 2, 2],
  batchSize: 4,
  student,
  features,
  featureLoss: "mse" as const,
  params: {
    student: { unet: number("gain", 0.3), controlNet: number("strength", 0) },
    teacher: { unet: number("gain", 0.6), controlNet: number("strength", 0.7) },
  },
  triplets: () => triplet,
};
const learning = (rate: number) => ({
  optimizer: { weightDecay: 0, emaDecay: 0.9 },
  learningRate: constantSchedule(rate),
});
const warmup = (options: Partial<ControlNetWarmupTaskOptions<D>> = {}) =>
  controlNetWarmupTask({ ...common, ...learning(0.02), name: "warm-up", steps: 4, ...options });
const scores = (options: Partial<ControlNetScoreDistillationTaskOptions<D>> = {}) =>
  controlNetScoreDistillationTask({
    ...common,
    name: "scores",
    steps: 4,
    onlineScore: network,
    offlineScore: network,
    prediction: "sample",
    schedule,
    contexts: () => triplet.context,
    conditions: () => triplet.condition,
    alpha: constantSchedule(0.9),
    lambdaFM: constantSchedule(0.5),
    optimisation: { student: learning(0.02), online: learning(0.02) },
    ...options,
  });
const values = (tensors: HostParams) => mapTensors(tensors, ({ data }) => [...data]);
const sum = (of: (i: number) => number) =>
  Array.from(triplet.noise.data, (_, i) => of(i)).reduce((total, value) => total + value, 0);

describe("controlNetWarmupTask", () => {
  it("trains the ControlNet alone, to the least squares of what the fixed U-Net leaves", async () => {
    const task = await warmup({ steps: 200, noiseRedrawShare: 0 });
    await train(task);
    expect(Object.keys(await task.weights())).toEqual(["student.controlnet.strength"]);
    const { noise, target, condition } = triplet;
    const squares = sum((i) => condition.data[i]! ** 2);
    const best = sum((i) => condition.data[i]! * (target.data[i]! - 0.3 * noise.data[i]!)) / squares;
    expect((await task.controlNet())["strength"]!.item()).toBeCloseTo(best, 3);
    await task.dispose();
  });

  it("goes on from a checkpoint the same, bit for bit, with resampled noise", async () => {
    const whole = await warmup();
    await train(whole);
    const checkpoints = memoryCheckpoints();
    await train(await warmup({ steps: 2 }), { checkpoints });
    const resumed = await warmup();
    expect((await train(resumed, { checkpoints })).resumedFrom).toBe(2);
    expect(values(await resumed.state())).toEqual(values(await whole.state()));
    const kept = await warmup({ noiseRedrawShare: 0 });
    await train(kept);
    expect(values(await kept.state())).not.toEqual(values(await whole.state()));
  });
});

describe("controlNetScoreDistillationTask", () => {
  it("shows the condition to student, online and offline DM, the teacher's ControlNet in both of the latter", async () => {
    const task = await scores({ noiseRedrawShare: 0 });
    const { sample, onlineSample, offlineSample } = await task.samples(0);
    const { noise, condition } = triplet;
    noise.data.forEach((value, i) => expect(sample.data[i]).toBeCloseTo(0.3 * value, 5)); // its strength is 0 at first
    onlineSample.data.forEach((value, i) => expect(value).toBeCloseTo(offlineSample.data[i]!, 5));
    const none = await scores({ noiseRedrawShare: 0, triplets: () => ({ ...triplet, condition: noise }) });
    const other = await none.samples(0);
    offlineSample.data.forEach((value, i) =>
      expect(value - other.offlineSample.data[i]!).toBeCloseTo(0.7 * (condition.data[i]! - noise.data[i]!), 5),
    );
  });

  it("trains the student's ControlNet and the online U-Net, and the same from a checkpoint, bit for bit", async () => {
    const whole = await scores();
    await train(whole);
    expect(Object.keys(await whole.weights("student"))).toEqual(["controlnet.strength"]);
    expect(Object.keys(await whole.weights("online"))).toEqual(["unet.gain"]);
    expect((await whole.controlNet({ averaged: true }))["strength"]!.item()).not.toBe(0);
    expect((await whole.weights("online"))["unet.gain"]!.item()).not.toBeCloseTo(0.6, 4);
    const checkpoints = memoryCheckpoints();
    await train(await scores({ steps: 2 }), { checkpoints });
    const resumed = await scores();
    expect((await train(resumed, { checkpoints })).resumedFrom).toBe(2);
    expect(values(await resumed.state())).toEqual(values(await whole.state()));
  });

  it("asks a teacher that runs elsewhere about the condition, too, in both halves of guidance", async () => {
    const asked: (HostTensor | undefined)[] = [];
    const elsewhere: ExternalScore = {
      predict({ sample, condition }) {
        asked.push(condition);
        const data = Array.from(sample.data, (value, i) => 0.6 * value + 0.7 * condition!.data[i]!);
        return Promise.resolve(HostTensor.from(sample.shape, data));
      },
    };
    const guidance = { scale: 2, unconditional: HostTensor.filled([1, 1], 0) };
    const within = await scores({ guidance });
    const outside = await scores({ guidance, offlineScore: elsewhere });
    for (const task of [within, outside]) await train(task);
    const strength = async (task: typeof within) => (await task.controlNet())["strength"]!.item();
    expect(await strength(outside)).toBeCloseTo(await strength(within), 4);
    expect([...asked[0]!.data]).toEqual([...triplet.condition.data, ...triplet.condition.data]);
  });
});

describe("controlTriplets", () => {
  it("extracts conditions from the teacher's own samples", async () => {
    const triplets = controlTriplets(
      (contexts, first) =>
        Promise.resolve({ noise: HostTensor.filled(contexts.shape, first), target: HostTensor.filled([1, 1], 7) }),
      ({ shape: given, data }) =>
        HostTensor.from(
          given,
          data.map((value) => 2 * value),
        ),
    );
    const { noise, target, condition } = await triplets(HostTensor.filled([1, 1, 1], 0), 3);
    expect([noise, target, condition].map(({ data }) => data[0])).toEqual([3, 7, 14]);
  });
});
