import * as ort from "onnxruntime-node";
import { noiseLevelAt, noiseSchedule } from "@sdxs/diffusion";
import { HostTensor, constantSchedule, ones, random, withGradients, type HostParams, type Program } from "@sdxs/tensor";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { expectOutput, testBackends, type RunOnce } from "@sdxs/tensor/testing";
import { train } from "@sdxs/training";
import { beforeAll, describe, expect, it } from "vitest";
import {
  externallyScoredDistillation,
  segmentedScoreDistillation,
  segmentedScoreDistillationTask,
  type ExternalScore,
  type FeatureExtractor,
  type Generator,
  type ScoreFunction,
  type StudentInput,
} from "../index.js";

const schedule = noiseSchedule();
const shape = [2, 1, 2, 2];
const gain = (value: number): HostParams => ({ gain: HostTensor.from([1], [value]) });

/** gain x_t + t / 1000 + the context. */
const network: ScoreFunction = (ops, p, { sample, timestep, context }) => {
  const conditioning = ops.add(
    ops.reshape(ops.mul(timestep, 1e-3), [-1, 1, 1, 1]),
    ops.reshape(context, [-1, 1, 1, 1]),
  );
  return ops.add(ops.mul(p.param("gain", [1], ones), sample), conditioning);
};
/** The same with a gain of 0.6, anywhere else. */
const teacher: ExternalScore = {
  predict: async ({ sample, timestep, context }) =>
    HostTensor.from(
      sample.shape,
      Array.from(sample.data, (value, i) => {
        const row = Math.floor(i / 4);
        return 0.6 * value + timestep.data[row]! / 1000 + context.data[row]!;
      }),
    ),
};
const student: Generator = (ops, p, { noise }) => ops.mul(p.param("gain", [1], ones), noise);
const models = {
  student,
  onlineScore: network,
  features: ((_ops, _p, { sample }) => [sample]) as FeatureExtractor,
  featureLoss: "mse" as const,
  schedule,
};

const inputs: Readonly<Record<StudentInput, HostTensor>> = {
  noise: random(1).normal(shape),
  target: random(2).normal(shape),
  context: HostTensor.from([2, 1, 1], [0.2, -0.1]),
  scoreNoise: random(3).normal(shape),
  timestep: HostTensor.from([2], [40, 600]),
  featureTimestep: HostTensor.filled([2], 0),
  alpha: HostTensor.scalar(0.8),
  lambdaFM: HostTensor.scalar(0.5),
};
const params: HostParams = {
  "student.gain": gain(0.9)["gain"]!,
  "online.gain": gain(0.4)["gain"]!,
  "teacher.gain": gain(0.6)["gain"]!,
};

describe.each(testBackends)("a distillation whose teacher runs elsewhere, on $name", (backend) => {
  let run: RunOnce;
  beforeAll(async () => {
    run = await backend.run();
  });
  const programs = externallyScoredDistillation(models);
  const { noise, context, scoreNoise, timestep } = inputs;

  it("asks the teacher about alpha x_0 + sigma n", async () => {
    const { noisySample } = await run(programs.noisySample, params, { noise, context, scoreNoise, timestep });
    noisySample.data.forEach((value, i) => {
      const { alpha, sigma } = noiseLevelAt(schedule, timestep.data[Math.floor(i / 4)]!);
      expect(value).toBeCloseTo(alpha * 0.9 * noise.data[i]! + sigma * scoreNoise.data[i]!, 5);
    });
  });

  it("has the student's losses and gradient of a teacher that runs within", async () => {
    const { noisySample } = await run(programs.noisySample, params, { noise, context, scoreNoise, timestep });
    const offlinePrediction = await teacher.predict({ sample: noisySample, timestep, context });
    const trained = ["student.gain"];
    const outside = await run(withGradients(programs.student as Program, trained), params, {
      ...inputs,
      offlinePrediction,
    });
    const whole = segmentedScoreDistillation({ ...models, offlineScore: network });
    const within = await run(withGradients(whole.student as Program, trained), params, inputs);
    expect(Object.keys(outside)).toEqual(Object.keys(within));
    for (const [name, tensor] of Object.entries(within)) expectOutput(name, outside[name], tensor);
    expect(within["scoreGap"]!.item()).toBeGreaterThan(0.01);
    expect(within["grad.student.gain"]!.item()).not.toBe(0);
  });

  it("refuses a prediction of another shape", async () => {
    const narrow = { ...inputs, offlinePrediction: HostTensor.filled([2, 1, 2, 1], 0) };
    await expect(run(programs.student, params, narrow)).rejects.toMatchObject({ code: "SHAPE_MISMATCH" });
  });
});

describe("segmentedScoreDistillationTask with a teacher that runs elsewhere", () => {
  const task = (offlineScore: ScoreFunction | ExternalScore) =>
    segmentedScoreDistillationTask({
      ...models,
      name: "elsewhere",
      backend: onnxBackend({ ort, threads: 1 }),
      seed: 4,
      steps: 3,
      sampleShape: [1, 2, 2],
      contextShape: [1, 1],
      batchSize: 2,
      offlineScore,
      guidance: { scale: 1.5, unconditional: HostTensor.from([1, 1], [0.4]) },
      params: { student: gain(0.9), online: gain(0.4), teacher: typeof offlineScore === "function" ? gain(0.6) : {} },
      pairs: () => inputs,
      contexts: () => inputs.context,
      alpha: constantSchedule(0.8),
      lambdaFM: constantSchedule(0.5),
      optimisation: {
        student: { optimizer: {}, learningRate: constantSchedule(0.01) },
        online: { optimizer: {}, learningRate: constantSchedule(0.01) },
      },
    });

  it("trains as with one that runs within, guidance included", async () => {
    const [within, outside] = [await task(network), await task(teacher)];
    for (const one of [within, outside]) await train(one);
    const weights = async (learner: "student" | "online") =>
      Promise.all([outside, within].map(async (one) => (await one.weights(learner))["gain"]!));
    for (const learner of ["student", "online"] as const) {
      const [actual, expected] = await weights(learner);
      expectOutput(learner, actual, expected);
    }
    const [actual, expected] = [await outside.samples(0), await within.samples(0)];
    for (const [name, tensor] of Object.entries(expected)) expectOutput(name, actual[name as "sample"], tensor);
    await Promise.all([within.dispose(), outside.dispose()]);
  });

  it("asks about the empty prompts first, then about the prompts, in one batch", async () => {
    const asked: number[][] = [];
    const recording: ExternalScore = {
      predict(given) {
        asked.push([...given.context.data]);
        expect(given.sample.shape).toEqual([4, 1, 2, 2]);
        expect(given.timestep.data.slice(0, 2)).toEqual(given.timestep.data.slice(2));
        return teacher.predict(given);
      },
    };
    await (await task(recording)).step(0);
    expect(asked).toEqual([Array.from(Float32Array.of(0.4, 0.4, 0.2, -0.1))]);
  });
});
