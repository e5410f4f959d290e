import {
  gatherNoiseLevels,
  lcm,
  noiseLevelAt,
  noiseSchedule,
  predictedNoise,
  predictionTarget,
  sample,
  type PredictionType,
} from "@sdxs/diffusion";
import {
  HostTensor,
  cosineSchedule,
  mapTensors,
  prefixed,
  random,
  zeros,
  type HostParams,
  type Ops,
  type Program,
  type TensorMap,
} from "@sdxs/tensor";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { maxAbs, maxAbsError, testBackends, type RunOnce } from "@sdxs/tensor/testing";
import { memoryCheckpoints, train } from "@sdxs/training";
import * as ort from "onnxruntime-node";
import { beforeAll, describe, expect, it } from "vitest";
import {
  consistencyDistillation,
  consistencyDistillationTask,
  type ConsistencyDistillationOptions,
  type ConsistencyInput,
  type ScoreFunction,
} from "../index.js";

// Data normal with deviation 0.6 around a mean that the context tells. Then the best prediction of x_0 is linear in x_t,
// so is a step of DDIM, and so are all of its steps from x_t to timestep 0.
const schedule = noiseSchedule();
const deviation = 0.6;
const skippedTimesteps = 100;
const timesteps = Array.from({ length: 10 }, (_, i) => (i + 1) * skippedTimesteps - 1);

/** E[x_0 | x_t] = mean + gain (x_t - alpha mean) */
const teacherGain = (t: number): number => {
  const { alpha, sigma } = noiseLevelAt(schedule, t);
  return (alpha * deviation ** 2) / ((alpha * deviation) ** 2 + sigma ** 2);
};
/** One step of DDIM: x_s - alpha_s mean = ratio (x_t - alpha_t mean) */
const ddimRatio = (t: number): number => {
  const from = noiseLevelAt(schedule, t);
  const to = noiseLevelAt(schedule, Math.max(t - skippedTimesteps, 0));
  return to.alpha * teacherGain(t) + (to.sigma / from.sigma) * (1 - from.alpha * teacherGain(t));
};
/** All of them: f(x_t, t) - alpha_0 mean = gain (x_t - alpha_t mean) */
const consistencyGain = (t: number): number => (t <= 0 ? 1 : ddimRatio(t) * consistencyGain(t - skippedTimesteps));
/** Mean and deviation of the samples that the consistency function makes of noise in some steps of LCM, for the mean 1. */
const idealMoments = (steps: readonly number[]): { mean: number; deviation: number } => {
  let [mean, variance] = [0, 1];
  steps.forEach((t, i) => {
    mean = firstAlpha + consistencyGain(t) * (mean - noiseLevelAt(schedule, t).alpha);
    variance *= consistencyGain(t) ** 2;
    const next = steps[i + 1];
    if (next === undefined) return;
    const { alpha, sigma } = noiseLevelAt(schedule, next);
    mean *= alpha;
    variance = variance * alpha ** 2 + sigma ** 2;
  });
  return { mean, deviation: Math.sqrt(variance) };
};
const firstAlpha = noiseLevelAt(schedule, 0).alpha;

/** Predicts x_0 = share context + gain (x_t - alpha context), with a share and a gain for each of the ten timesteps. */
const network = (prediction: PredictionType): ScoreFunction =>
  function predict(ops, p, { sample: noisy, timestep, context }) {
    const level = gatherNoiseLevels(ops, schedule, timestep);
    const index = ops.cast(ops.div(timestep, skippedTimesteps), "int32");
    const at = (values: typeof noisy) => ops.reshape(values, [-1, 1, 1, 1]);
    const parameter = (name: string) => at(ops.gather(p.param(name, [10], zeros), index, 0));
    const alpha = at(level.alpha);
    const rest = ops.sub(noisy, ops.mul(alpha, at(context)));
    const clean = ops.add(ops.mul(parameter("share"), at(context)), ops.mul(parameter("gain"), rest));
    return predictionTarget(ops, prediction, clean, predictedNoise(ops, "sample", noisy, clean, level), level);
  };

const tables = (share: (t: number) => number, gain: (t: number) => number): HostParams => ({
  share: HostTensor.from([10], timesteps.map(share)),
  gain: HostTensor.from([10], timesteps.map(gain)),
});
const teacher = tables(() => 1, teacherGain);
/** Guidance away from a mean of 0 multiplies the mean: f = alpha_0 scale context + gain (x_t - alpha scale context). */
const consistent = (scale: number): HostParams =>
  tables(
    (t) => firstAlpha * scale - consistencyGain(t) * noiseLevelAt(schedule, t).alpha * (scale - 1),
    consistencyGain,
  );

const batch = timesteps.length;
const shape = [batch, 1, 2, 2];
const context = random(1).normal([batch, 1, 1]);
const inputs = (scale: number): Readonly<Record<ConsistencyInput, HostTensor>> => ({
  clean: random(2).normal(shape),
  noise: random(3).normal(shape),
  timestep: HostTensor.from([batch], timesteps),
  context,
  guidanceScale: HostTensor.filled([batch], scale),
});
const options = (prediction: PredictionType): ConsistencyDistillationOptions => ({
  student: network(prediction),
  teacher: network(prediction),
  prediction,
  schedule,
  skippedTimesteps,
  unconditional: HostTensor.filled([1, 1], 0),
});

describe.each(testBackends)("consistency distillation on $name", (backend) => {
  let run: RunOnce;
  beforeAll(async () => {
    run = await backend.run();
  });

  it.each(["epsilon", "v_prediction", "sample"] as const)(
    "has neither loss nor gradient where the student is the teacher's consistency function: %s",
    async (prediction) => {
      const program = consistencyDistillation({ ...options(prediction), loss: "mse" });
      const differentiated: Program<ConsistencyInput> = <T>(
        ops: Ops<T>,
        params: TensorMap<T>,
        data: Readonly<Record<ConsistencyInput, T>>,
      ) => {
        const learned = Object.fromEntries(Object.entries(params).filter(([name]) => name.startsWith("student.")));
        const { loss, grads } = ops.valueAndGrad(
          (varied) => ({ loss: program(ops, { ...params, ...varied }, data).loss, aux: {} }),
          learned,
        );
        return { loss, ...grads };
      };
      const scale = 2;
      const of = (student: HostParams) => ({ ...prefixed(student, "student."), ...prefixed(teacher, "teacher.") });
      const best = await run(differentiated, of(consistent(scale)), inputs(scale));
      const other = await run(differentiated, of(consistent(1)), inputs(scale));
      expect(other["loss"]!.item()).toBeGreaterThan(1e-3);
      expect(best["loss"]!.item()).toBeLessThan(1e-9); // float32, amplified by 1 / alpha = 14.6 at most
      for (const name of ["student.share", "student.gain"]) {
        expect(maxAbs(other[name]!), name).toBeGreaterThan(1e-3);
        expect(maxAbs(best[name]!), name).toBeLessThan(1e-4);
      }
    },
  );

  it("ends at timestep 0, whatever the student: there f(x, 0) = x, the teacher's guided step of DDIM", async () => {
    const scales = timesteps.map((_, row) => 1 + row / 2); // each sample has one of its own
    const data = {
      ...inputs(1),
      timestep: HostTensor.filled([batch], timesteps[0]!),
      guidanceScale: HostTensor.from([batch], scales),
    };
    const params = { ...prefixed(tables(Math.sin, Math.cos), "student."), ...prefixed(teacher, "teacher.") };
    const { target } = await run(consistencyDistillation(options("epsilon")), params, data);
    const { alpha, sigma } = noiseLevelAt(schedule, timesteps[0]!);
    const expected = Array.from(data.clean.data, (clean, i) => {
      const row = Math.floor(i / 4);
      const mean = context.data[row]! * scales[row]!;
      const noisy = alpha * clean + sigma * data.noise.data[i]!;
      return firstAlpha * mean + ddimRatio(timesteps[0]!) * (noisy - alpha * mean);
    });
    expect(maxAbsError(target, HostTensor.from(shape, expected))).toBeLessThan(1e-5);
  });

  it("is the pseudo-Huber distance of both samples, or the mean squared one", async () => {
    const params = { ...prefixed(consistent(1), "student."), ...prefixed(teacher, "teacher.") };
    const given = inputs(3);
    const pseudoHuber = await run(consistencyDistillation({ ...options("sample"), c: 0.1 }), params, given);
    const { perSample: squares } = await run(
      consistencyDistillation({ ...options("sample"), loss: "mse" }),
      params,
      given,
    );
    for (let row = 0; row < batch; row++) {
      const differences = [0, 1, 2, 3].map(
        (i) => pseudoHuber.sample.data[4 * row + i]! - pseudoHuber.target.data[4 * row + i]!,
      );
      const mean = (f: (d: number) => number) => differences.reduce((sum, d) => sum + f(d) / 4, 0);
      expect(pseudoHuber.perSample.data[row]).toBeCloseTo(
        mean((d) => Math.sqrt(d * d + 0.01) - 0.1),
        5,
      );
      expect(squares.data[row]).toBeCloseTo(
        mean((d) => d * d),
        5,
      );
    }
  });

  it("learns the moving average's sample where that is the target", async () => {
    const params = {
      ...prefixed(tables(Math.sin, Math.cos), "student."),
      ...prefixed(consistent(1), "target.student."),
      ...prefixed(teacher, "teacher."),
    };
    const average = await run(consistencyDistillation({ ...options("epsilon"), target: "average" }), params, inputs(1));
    const swapped = { ...params, ...prefixed(consistent(1), "student.") };
    const own = await run(consistencyDistillation(options("epsilon")), swapped, inputs(1));
    expect(maxAbsError(average.target, own.target)).toBe(0);
    expect(maxAbsError(average.sample, own.sample)).toBeGreaterThan(0.1);
  });
});

it("consistency distillation refuses steps that skip nothing and noise of another shape", async () => {
  expect(() => consistencyDistillation({ ...options("sample"), skippedTimesteps: 0 })).toThrow(
    expect.objectContaining({ code: "INVALID_ARGUMENT" }),
  );
  const run = await testBackends[0]!.run();
  const params = { ...prefixed(teacher, "student."), ...prefixed(teacher, "teacher.") };
  const narrow = { ...inputs(1), noise: HostTensor.filled([batch, 1, 2, 1], 0) };
  await expect(run(consistencyDistillation(options("sample")), params, narrow)).rejects.toMatchObject({
    code: "SHAPE_MISMATCH",
  });
});

describe("consistencyDistillationTask", () => {
  const taskOptions = (steps: number, target: "student" | "average") => ({
    ...options("v_prediction"),
    target,
    loss: "mse" as const,
    name: "straighten",
    backend: onnxBackend({ ort, threads: 1 }),
    seed: 1,
    steps,
    sampleShape: shape.slice(1),
    contextShape: [1, 1],
    batchSize: 32,
    params: { student: teacher, teacher },
    samples(update: number) {
      const context = random("means", update).normal([32, 1, 1]);
      const clean = random("clean", update).normal([32, 1, 2, 2]);
      clean.data.forEach((value, i) => (clean.data[i] = context.data[Math.floor(i / 4)]! + deviation * value));
      return { clean, context };
    },
    optimizer: { weightDecay: 0, emaDecay: 0.9 },
    learningRate: cosineSchedule({ rate: 0.05, totalSteps: 800, finalRate: 1e-3 }),
  });

  it.each(["student", "average"] as const)(
    "makes of a teacher a model that samples in 1, 2 or 4 steps of LCM; target: %s",
    async (target) => {
      const training = await consistencyDistillationTask(taskOptions(800, target));
      await train(training);
      const { share, gain } = await training.weights({ averaged: true });
      timesteps.forEach((t, i) => {
        expect(gain!.data[i], `gain at ${t}`).toBeCloseTo(consistencyGain(t), 1);
        expect(share!.data[i], `share at ${t}`).toBeCloseTo(firstAlpha, 1);
      });

      const predictOnHost = (x: HostTensor, timestep: number): HostTensor => {
        const i = Math.floor(timestep / skippedTimesteps);
        const { alpha, sigma } = noiseLevelAt(schedule, timestep);
        return HostTensor.from(
          x.shape,
          Array.from(x.data, (value) => {
            const clean = share!.data[i]! * 1 + gain!.data[i]! * (value - alpha); // of the mean 1
            return (alpha * value - clean) / sigma; // v
          }),
        );
      };
      for (const steps of [1, 2, 4]) {
        const plan = lcm(schedule, { steps, prediction: "v_prediction", originalSteps: 10 });
        const noise = random("noise", steps).normal([4000]);
        const stepNoise = (step: number) => random("step", steps, step).normal([4000]);
        const data = Array.from((await sample({ plan, noise, predict: predictOnHost, stepNoise })).data);
        const mean = data.reduce((sum, value) => sum + value / data.length, 0);
        const spread = Math.sqrt(data.reduce((sum, value) => sum + (value - mean) ** 2 / data.length, 0));
        const ideal = idealMoments(plan.timesteps);
        expect(Math.abs(mean - ideal.mean), `${steps} steps`).toBeLessThan(0.03);
        expect(Math.abs(spread - ideal.deviation), `${steps} steps`).toBeLessThan(0.03);
      }
    },
  );

  it("goes on from a checkpoint, bit for bit", async () => {
    const task = (steps: number) => consistencyDistillationTask(taskOptions(steps, "average"));
    const whole = await task(4);
    await train(whole);
    const checkpoints = memoryCheckpoints();
    await train(await task(2), { checkpoints });
    const resumed = await task(4);
    await train(resumed, { checkpoints });
    const values = (tensors: HostParams) => mapTensors(tensors, ({ data }) => [...data]);
    expect(values(await resumed.state())).toEqual(values(await whole.state()));
  });

  it("refuses scales in the wrong order, too large steps, and an average that is not kept", async () => {
    const invalid = expect.objectContaining({ code: "INVALID_ARGUMENT" });
    const given = taskOptions(1, "average");
    await expect(consistencyDistillationTask({ ...given, guidanceScales: [3, 2] })).rejects.toEqual(invalid);
    await expect(consistencyDistillationTask({ ...given, skippedTimesteps: 1001 })).rejects.toEqual(invalid);
    const forgetful = await consistencyDistillationTask({ ...given, optimizer: {} });
    await expect(forgetful.step(0)).rejects.toEqual(invalid);
  });
});
