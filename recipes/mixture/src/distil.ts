import {
  HostTensor,
  constantSchedule,
  cosineSchedule,
  declareParameters,
  initialize,
  linearLayer,
  prefixed,
  random,
  scope,
  select,
  type Backend,
  type HostParams,
  type Program,
} from "@sdxs/tensor";
import { noiseSchedule } from "@sdxs/diffusion";
import {
  distributionMatchingDistillationTask,
  featureMatchingWarmup,
  segmentedScoreDistillationTask,
  type FeatureExtractor,
  type Generator,
  type PairBatch,
} from "@sdxs/one-step-trainer";
import { gradientTask, takeRows, train } from "@sdxs/training";
import { mapBatches } from "../../rows.js";
import { mixtureParameters, mixtureScore, pointShape, samplePoints, type Component } from "./gaussian-mixture.js";

/** What the student is to make: three groups of unequal weight and size. */
export const target: readonly Component[] = [
  { weight: 0.5, mean: [-1.5, -0.5], deviation: 0.25 },
  { weight: 0.3, mean: [1.2, -1], deviation: 0.4 },
  { weight: 0.2, mean: [0.6, 1.6], deviation: 0.15 },
];

const schedule = noiseSchedule();
const batchSize = 256;
const pairCount = 4096;
const contextShape = [1, 1]; // no prompts
const seed = 1;

/** A perceptron of two hidden layers, from the noise straight to the point. */
export const generator: Generator = (ops, p, { noise }) => {
  const [batch = 1] = ops.shape(noise);
  let x = ops.reshape(noise, [batch, 2]);
  for (const layer of ["first", "second"]) x = ops.tanh(linearLayer(ops, p.at(layer), x, 96));
  return ops.reshape(linearLayer(ops, p.at("last"), x, 2), ops.shape(noise));
};

/** Draws each point as a spot of three widths on a grid over [-3, 3]^2: maps that SSIM can compare, as an encoder gives. */
const features: FeatureExtractor = (ops, _p, { sample: points }) => {
  const size = 16;
  const axis = Float32Array.from({ length: size }, (_, i) => -3 + (6 * (i + 0.5)) / size);
  const [batch = 1] = ops.shape(points);
  const squares = (coordinate: number, shape: number[]) => {
    const value = ops.reshape(ops.slice(points, 1, coordinate, 1), [batch, 1, 1]);
    return ops.square(ops.sub(ops.constant(axis, shape), value));
  };
  const distance = ops.reshape(ops.add(squares(0, [1, 1, size]), squares(1, [1, size, 1])), [batch, 1, size, size]);
  return [0.25, 0.5, 1].map((width) => ops.exp(ops.div(distance, -2 * width * width)));
};

/** How a student can be trained. */
export const methods = ["mean squared error", "feature matching", "Diff-Instruct", "SSD", "DMD2"] as const;
export type Method = (typeof methods)[number];

/**
 * One noise with an image that has nothing to do with it, the trouble of Equation 9 at its extreme: all that regression
 * can learn from these pairs is where the images lie.
 */
const pairs: PairBatch = {
  noise: random(seed, "noise").normal([pairCount, ...pointShape]),
  target: samplePoints(target, pairCount, seed, "images"),
  context: HostTensor.filled([pairCount, ...contextShape], 0), // no prompts
};

function pairBatch(purpose: string, update: number): PairBatch {
  const rows = random(seed, purpose, update).integers([batchSize], 0, pairCount).data;
  return {
    noise: takeRows(pairs.noise, rows),
    target: takeRows(pairs.target, rows),
    context: takeRows(pairs.context, rows),
  };
}

/** Steps of the warm-up, by feature matching or by MSE, and of score distillation. */
export interface Budget {
  readonly warmupSteps: number;
  readonly distillationSteps: number;
}

/** Trains a student of the mixture and returns its parameters. */
export async function distil<D>(backend: Backend<D>, method: Method, budget: Budget): Promise<HostParams> {
  const warm = await warmUp(backend, method === "mean squared error" ? "mse" : "features", budget.warmupSteps);
  if (method === "mean squared error" || method === "feature matching") return warm;
  const steps = budget.distillationSteps;
  const falling = (rate: number, finalRate: number) => cosineSchedule({ rate, finalRate, totalSteps: steps });
  const common = {
    name: method,
    backend,
    seed,
    steps,
    sampleShape: pointShape,
    contextShape,
    batchSize,
    student: generator,
    offlineScore: mixtureScore(schedule, target.length),
    onlineScore: mixtureScore(schedule, onlineComponents),
    prediction: "sample",
    schedule,
    params: { student: warm, online: onlineParameters(), teacher: mixtureParameters(target) },
    contexts: (update: number) => pairBatch("contexts", update).context,
    onlineUpdates: 3,
    optimisation: {
      student: { optimizer: { weightDecay: 0, emaDecay: 0.99 }, learningRate: falling(2e-3, 1e-5) },
      online: { optimizer: { weightDecay: 0 }, learningRate: constantSchedule(2e-2) },
    },
  } as const;
  const task =
    method === "DMD2"
      ? await distributionMatchingDistillationTask({
          ...common,
          params: { ...common.params, online: { ...common.params.online, ...classifierTrunk } },
          features: onlineFeatures,
          discriminator: (ops, p, [map]) => linearLayer(ops, p, ops.reshape(map!, [-1, 64]), 1),
          lambdaGan: 0.1, // chosen: the best of 1e-3 (DMD2's), 1e-2 and 0.1 by energy distance
          reals: (update) => {
            const { target: real, context } = pairBatch("reals", update);
            return { real, context };
          },
        })
      : await segmentedScoreDistillationTask({
          ...common,
          features,
          pairs: (update) => pairBatch("pairs", update),
          alpha: method === "SSD" ? falling(0.95, 0.7) : constantSchedule(0.98),
          lambdaFM: method === "SSD" ? falling(0.1, 0) : constantSchedule(0),
        });
  await train(task);
  const weights = await task.weights("student", { averaged: true });
  await task.dispose();
  return weights;
}

async function warmUp<D>(backend: Backend<D>, by: "mse" | "features", steps: number): Promise<HostParams> {
  const samples = { shape: [batchSize, ...pointShape] };
  const params = initialize(
    declareParameters((ops, p, inputs) => generator(ops, p, inputs), {
      noise: samples,
      context: { shape: [batchSize, ...contextShape] },
    }),
    seed,
  );
  const task = await gradientTask({
    name: by,
    backend,
    program: featureMatchingWarmup({
      student: generator,
      features,
      weights: by === "mse" ? { features: 0, mse: 1 } : { features: 1 },
    }),
    params: prefixed(params, "student."),
    inputs: {
      noise: samples,
      target: samples,
      context: { shape: [batchSize, ...contextShape] },
      featureTimestep: { shape: [batchSize] },
    },
    batch: (step) => ({ ...pairBatch("warm-up", step), featureTimestep: HostTensor.filled([batchSize], 0) }),
    optimizer: { weightDecay: 0, emaDecay: 0.99 },
    learningRate: cosineSchedule({ rate: 2e-3, finalRate: 1e-4, totalSteps: steps }),
    steps,
  });
  await train(task);
  const weights = select(await task.weights({ averaged: true }), "student.");
  await task.dispose();
  return weights;
}

/** Chosen: a student's points fill bent bands as well as round groups, so the online mixture has more parts than the target. */
const onlineComponents = 24;

/** As the target's parts, each several times at slightly different places. */
function onlineParameters(): HostParams {
  const shift = random(seed, "online components").normal([onlineComponents, 2]).data;
  return mixtureParameters(
    Array.from({ length: onlineComponents }, (_, i) => {
      const { weight, mean, deviation } = target[i % target.length]!;
      const [x, y] = [mean[0] + 0.3 * (shift[2 * i] ?? 0), mean[1] + 0.3 * (shift[2 * i + 1] ?? 0)];
      return { weight: (weight * target.length) / onlineComponents, mean: [x, y], deviation };
    }),
  );
}

/** What DMD2's classifier looks at in place of a U-Net's bottleneck: a layer of point and time, [batch, 64, 1, 1]. */
const onlineFeatures: FeatureExtractor = (ops, p, { sample, timestep }) => {
  const time = ops.reshape(ops.mul(timestep, 1 / schedule.trainSteps), [-1, 1, 1, 1]);
  const seen = ops.reshape(ops.concat([sample, time], 1), [-1, 3]);
  return [ops.reshape(ops.tanh(linearLayer(ops, p.at("trunk"), seen, 64)), [-1, 64, 1, 1])];
};
const classifierTrunk = initialize(
  declareParameters(onlineFeatures, {
    sample: { shape: [1, ...pointShape] },
    timestep: { shape: [1] },
    context: { shape: [1, ...contextShape] },
  }),
  seed,
);

/** What a student makes of fresh noise, [count, 2, 1, 1]. */
export async function generate<D>(backend: Backend<D>, params: HostParams, count: number): Promise<HostTensor> {
  const noise = random(seed, "test noise").normal([count, ...pointShape]);
  const context = HostTensor.filled([count, ...contextShape], 0);
  const program: Program<"noise" | "context", "points"> = (ops, given, inputs) => ({
    points: generator(ops, scope(ops, given), inputs),
  });
  return (await mapBatches(backend, program, params, { noise, context }, count)).points;
}
