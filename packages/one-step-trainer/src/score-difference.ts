import { InvalidArgumentError, ShapeError, scope, type HostTensor, type Ops, type TensorMap } from "@sdxs/tensor";
import {
  addNoise,
  gatherNoiseLevels,
  guided,
  predictedSample,
  predictionTarget,
  type NoiseLevel,
  type NoiseSchedule,
  type PredictionType,
} from "@sdxs/diffusion";
import { denoisingLoss } from "@sdxs/losses";
import type { ScoreFunction } from "./plug-ins.js";

/**
 * w(t) of Equation 12, which sets how much each noise level counts:
 * - "diff-instruct": 1 for the scores themselves (https://arxiv.org/abs/2305.18455);
 * - "swiftbrush": sigma^2 for the predicted noises (https://arxiv.org/abs/2312.05239);
 * - "dmd": whatever makes the gradient as large as the offline prediction's distance to the student's sample
 *   (https://arxiv.org/abs/2311.18828, Equation 8), so that all noise levels count alike.
 */
export type ScoreWeight = "diff-instruct" | "swiftbrush" | "dmd";

/** The two diffusion models whose scores are compared. */
export interface ScoreModels {
  /** The online DM s_phi, which follows the student's distribution; its parameters lie under "online.". */
  readonly onlineScore: ScoreFunction;
  /** The offline DM s_p, the frozen pretrained one; its parameters lie under "teacher.". */
  readonly offlineScore: ScoreFunction;
  /** What the two networks predict. Default "epsilon". */
  readonly prediction?: PredictionType;
  readonly schedule: NoiseSchedule;
  /** Classifier-free guidance of the offline score, never of the online one. Default: none. */
  readonly guidance?: {
    readonly scale: number;
    /** Context of the empty prompt [tokens, features]. */
    readonly unconditional: HostTensor;
  };
  /** Default "dmd", which depends on the schedule the least. */
  readonly scoreWeight?: ScoreWeight;
}

/** What makes a sample noisy, and what it is a sample of. */
export interface NoisyInputs<T> {
  /** Standard normal, shaped as the sample. */
  readonly scoreNoise: T;
  /** float32 [batch], whole numbers in [0, T). */
  readonly timestep: T;
  /** [batch, tokens, features] */
  readonly context: T;
}

/** Equation 1 of the online DM on the student's samples, [batch]. */
export function onlineLoss<T>(
  ops: Ops<T>,
  params: TensorMap<T>,
  { onlineScore, schedule, prediction = "epsilon" }: ScoreModels,
  sample: T,
  { scoreNoise, timestep, context }: NoisyInputs<T>,
): T {
  const level = gatherNoiseLevels(ops, schedule, timestep);
  const noisy = addNoise(ops, sample, scoreNoise, level);
  const output = onlineScore(ops, scope(ops, params, "online"), { sample: noisy, timestep, context });
  return denoisingLoss(ops, output, predictionTarget(ops, prediction, sample, scoreNoise, level));
}

/** The scores of both models at x_t. Nothing of it carries a gradient. */
export interface ScoreDifference<T> {
  /** w(t) [s_phi(x_t, t) - s_p(x_t)] d x_t / d x_0, shaped as the sample. */
  readonly gradient: T;
  /** The clean samples that both predict from x_t. */
  readonly onlineSample: T;
  readonly offlineSample: T;
  /** Mean distance of the two predictions relative to that of the sample from the offline one, shape []. */
  readonly gap: T;
}

/**
 * The integrand of Equation 12 at one t for each sample. Both scores are taken through predictions of the clean sample:
 * the scores of two models differ by alpha / sigma^2 times the difference of their predictions of x_0.
 */
export function scoreDifference<T>(
  ops: Ops<T>,
  params: TensorMap<T>,
  models: ScoreModels,
  sample: T,
  { scoreNoise, timestep, context }: NoisyInputs<T>,
): ScoreDifference<T> {
  const { onlineScore, schedule, prediction = "epsilon", scoreWeight = "dmd" } = models;
  const fixed = ops.stopGradient(sample);
  const level = gatherNoiseLevels(ops, schedule, timestep);
  const noisy = addNoise(ops, fixed, scoreNoise, level);
  const inputs = { sample: noisy, timestep, context };
  const toSample = (output: T): T => ops.stopGradient(predictedSample(ops, prediction, noisy, output, level));

  const onlineSample = toSample(onlineScore(ops, scope(ops, params, "online"), inputs));
  const offlineSample = toSample(guidedScore(ops, scope(ops, params, "teacher"), models, inputs));
  const difference = ops.sub(onlineSample, offlineSample);
  const distance = ops.mean(ops.abs(ops.sub(fixed, offlineSample)), {
    axes: axesAfterBatch(ops, sample),
    keepDims: true,
  });
  return {
    gradient: ops.mul(difference, sampleWeight(ops, scoreWeight, level, distance)),
    onlineSample,
    offlineSample,
    gap: ops.div(ops.mean(ops.abs(difference)), ops.mean(distance)),
  };
}

/** w(t) alpha times the scores' share in the difference of the predictions of x_0; `distance` is [batch, 1, ...]. */
function sampleWeight<T>(ops: Ops<T>, weight: ScoreWeight, { alpha, sigma }: NoiseLevel<T>, distance: T): T {
  switch (weight) {
    case "diff-instruct": // alpha / sigma^2 from the scores, alpha from d x_t / d x_0
      return ops.reshape(ops.div(ops.square(alpha), ops.square(sigma)), ops.shape(distance));
    case "swiftbrush": // alpha / sigma from the noises, times sigma^2
      return ops.reshape(ops.mul(alpha, sigma), ops.shape(distance));
    case "dmd":
      return ops.div(1, ops.maximum(distance, 1e-6)); // chosen: nothing is to be learned where they are one
  }
}

/** The offline model's output, away from that for the empty prompt. Both are one batch. */
function guidedScore<T>(
  ops: Ops<T>,
  p: ReturnType<typeof scope<T>>,
  { offlineScore, guidance }: ScoreModels,
  inputs: { readonly sample: T; readonly timestep: T; readonly context: T },
): T {
  if (guidance === undefined || guidance.scale === 1) return offlineScore(ops, p, inputs);
  const { sample, timestep, context } = inputs;
  const [batch = 1, ...contextShape] = ops.shape(context);
  const { scale, unconditional } = guidance;
  if (!Number.isFinite(scale)) throw new InvalidArgumentError(`guidance.scale must be a finite number, got ${scale}.`);
  if (unconditional.shape.join() !== contextShape.join()) {
    throw new ShapeError(
      `guidance.unconditional must be [${contextShape.join(", ")}] as one context, got [${unconditional.shape.join(", ")}].`,
    );
  }
  const empty = ops.broadcastTo(ops.constant(unconditional.data, [1, ...contextShape]), ops.shape(context));
  const twice = (x: T): T => ops.concat([x, x], 0);
  const outputs = offlineScore(ops, p, {
    sample: twice(sample),
    timestep: twice(timestep),
    context: ops.concat([empty, context], 0),
  });
  return guided(ops, ops.slice(outputs, 0, 0, batch), ops.slice(outputs, 0, batch, batch), scale);
}

/** The axes of a tensor but the first. */
export function axesAfterBatch<T>(ops: Ops<T>, x: T): number[] {
  return ops
    .shape(x)
    .slice(1)
    .map((_, i) => i + 1);
}
