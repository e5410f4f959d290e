import * as ort from "onnxruntime-node";
import { noiseSchedule, oneStepConversion } from "@sdxs/diffusion";
import {
  HostTensor,
  constantSchedule,
  convLayer,
  initialize,
  declareParameters,
  mapTensors,
  random,
} from "@sdxs/tensor";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { memoryCheckpoints, train } from "@sdxs/training";
import { describe, expect, it } from "vitest";
import {
  distillationWarnings,
  oneStepGenerator,
  saturatedShare,
  segmentedScoreDistillationTask,
  type ScoreFunction,
  type SegmentedScoreDistillationTaskOptions,
} from "../index.js";

const schedule = noiseSchedule();
const network: ScoreFunction = (ops, p, { sample }) => convLayer(ops, p.at("conv"), sample, 2);
const weights = (seed: number) =>
  initialize(
    declareParameters((ops, p, { sample }) => network(ops, p, { sample, timestep: sample, context: sample }), {
      sample: { shape: [1, 2, 4, 4] },
    }),
    seed,
  );

type Options = SegmentedScoreDistillationTaskOptions<Awaited<ReturnType<ReturnType<typeof onnxBackend>["download"]>>>;
const task = (options: Partial<Omit<Options, "backend">> = {}) =>
  segmentedScoreDistillationTask({
    name: "ssd",
    backend: onnxBackend({ ort }),
    seed: 3,
    steps: 4,
    sampleShape: [2, 4, 4],
    contextShape: [1, 1],
    batchSize: 2,
    student: oneStepGenerator(network, oneStepConversion(schedule, { prediction: "v_prediction" })),
    onlineScore: network,
    offlineScore: network,
    prediction: "v_prediction",
    schedule,
    features: (_ops, _p, { sample }) => [sample],
    params: { student: weights(1), online: weights(2), teacher: weights(2) },
    pairs: (update, microBatch) => ({
      noise: random(4, "noise", update, microBatch).normal([2, 2, 4, 4]),
      target: random(4, "target", update, microBatch).normal([2, 2, 4, 4]),
      context: HostTensor.filled([2, 1, 1], 0),
    }),
    contexts: () => HostTensor.filled([2, 1, 1], 0),
    onlineUpdates: 2,
    alpha: (step) => 1 - 0.1 * step,
    lambdaFM: constantSchedule(0.5),
    optimisation: {
      student: { optimizer: { emaDecay: 0.9 }, learningRate: constantSchedule(1e-2) },
      online: { optimizer: {}, learningRate: constantSchedule(1e-2) },
    },
    ...options,
  });

describe("segmentedScoreDistillationTask", () => {
  it("trains both models in turn, and the same from a checkpoint, bit for bit", async () => {
    const whole = await task();
    await train(whole);
    const changed = (a: Record<string, HostTensor>, b: Record<string, HostTensor>) =>
      Object.keys(a).some((name) => a[name]!.data.some((value, i) => value !== b[name]!.data[i]));
    expect(changed(weights(1), await whole.weights("student"))).toBe(true);
    expect(changed(weights(2), await whole.weights("online"))).toBe(true);

    const checkpoints = memoryCheckpoints();
    await train(await task({ steps: 2 }), { checkpoints });
    const resumed = await task();
    expect((await train(resumed, { checkpoints })).resumedFrom).toBe(2);
    const values = (tensors: Record<string, HostTensor>) => mapTensors(tensors, ({ data }) => [...data]);
    expect(values(await resumed.state())).toEqual(values(await whole.state()));
  });

  it("averages micro-batches, and reports both models", async () => {
    const metrics = await (await task({ microBatches: 2 })).step(0);
    for (const name of ["online.loss", "student.featureMatching", "student.scoreGap", "student.spread", "loss"]) {
      expect(metrics[name], name).toBeGreaterThan(0);
    }
  });

  it("shows the samples and what both scores make of them", async () => {
    const trained = await task();
    const first = await trained.samples(0);
    expect(Object.keys(first)).toEqual(["sample", "onlineSample", "offlineSample"]);
    for (const { shape } of Object.values(first)) expect(shape).toEqual([2, 2, 4, 4]);
    // As it begins the online DM is the offline one.
    first.onlineSample.data.forEach((value, i) => expect(value).toBeCloseTo(first.offlineSample.data[i]!, 5));
    await trained.step(0);
    const second = await trained.samples(0);
    const moved = second.onlineSample.data.map((value, i) => Math.abs(value - second.offlineSample.data[i]!));
    expect(Math.max(...moved)).toBeGreaterThan(1e-3);
    expect(second.sample).not.toEqual(first.sample);
  });

  it("refuses schedules and timesteps out of range", async () => {
    const invalid = expect.objectContaining({ code: "INVALID_ARGUMENT" });
    await expect(task({ minTimestep: 1 })).rejects.toEqual(invalid);
    await expect((await task({ alpha: constantSchedule(0.01) })).step(0)).rejects.toEqual(invalid);
    await expect((await task({ lambdaFM: () => -1 })).step(0)).rejects.toEqual(invalid);
  });
});

describe("diagnostics", () => {
  it("warn of scores that drifted apart and of samples that became alike", () => {
    expect(distillationWarnings({ "student.scoreGap": 0.4, "student.spread": 0.9 })).toEqual([]);
    expect(distillationWarnings({ "student.scoreGap": 2 })[0]).toMatch(/onlineUpdates/);
    expect(distillationWarnings({ "student.spread": 0.2 })[0]).toMatch(/lambdaFM/);
    expect(distillationWarnings({ "lora.spread": 0.2 })[0]).toMatch(/lambdaGan/);
  });

  it("warn of a discriminator that has won", () => {
    expect(distillationWarnings({ "discriminator.adversarial": 1.4 })).toEqual([]);
    expect(distillationWarnings({ "discriminator.adversarial": 0.03 })[0]).toMatch(/learning rate/);
    expect(distillationWarnings({ "online.adversarial": 0.03 })[0]).toMatch(/learning rate/);
  });

  it("count values at the ends of their range", () => {
    expect(saturatedShare(HostTensor.from([4], [-1, -0.5, 1.2, 0]))).toBe(0.5);
    expect(saturatedShare(HostTensor.from([4], [0, 0.5, 0.9, 1]), [0, 1])).toBe(0.5);
  });
});
