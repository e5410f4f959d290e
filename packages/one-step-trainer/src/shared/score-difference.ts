import { scope, type Ops, type TensorMap } from "@sdxs/tensor";
import {
  addNoise,
  broadcastLevel,
  gatherNoiseLevels,
  guided,
  predictedSample,
  predictionTarget,
  type NoiseSchedule,
  type PredictionType,
} from "@sdxs/diffusion";
import { denoisingLoss, distributionMatchingLoss, scoreDistillationLoss, scoreDistillationWeights } from "@sdxs/losses";
import { activeGuidance, type Guidance } from "./guidance.js";
import type { Conditioning, NetworkInputs, ScoreFunction } from "./plug-ins.js";
import { differentiateBySample, sampleSize, type SampleLoss } from "./sample-loss.js";

/**
 * w(t) of Equation 12, which sets how much each noise level counts:
 * - "diff-instruct": 1 for the scores themselves (https://arxiv.org/abs/2305.18455);
 * - "swiftbrush": sigma^2 for the predicted noises (https://arxiv.org/abs/2312.05239);
 * - "dmd": the factor that makes the gradient as large as the offline prediction's distance to the student's sample
 *   (https://arxiv.org/abs/2311.18828, Equation 8), so that all noise levels count alike.
 */
export type ScoreWeight = "diff-instruct" | "swiftbrush" | "dmd";

/** The two diffusion models whose scores are compared. */
export interface ScoreModels {
  /** The online DM s_phi, which follows the student's distribution; its parameters are under "online.". */
  readonly onlineScore: ScoreFunction;
  /** The offline DM s_p, the frozen pretrained one; its parameters are under "teacher.". */
  readonly offlineScore: ScoreFunction;
  /** What the two networks predict. Default "epsilon". */
  readonly prediction?: PredictionType;
  readonly schedule: NoiseSchedule;
  /** Classifier-free guidance of the offline score, never of the online one. Default: none. */
  readonly guidance?: Guidance;
  /** Default "dmd", which depends on the schedule the least. */
  readonly scoreWeight?: ScoreWeight;
}

/** The noise, noise level and conditioning of a noisy sample. */
export interface NoisyInputs<T> extends Conditioning<T> {
  /** Standard normal, shaped as the sample. */
  readonly scoreNoise: T;
  /** float32 [batch], whole numbers in [0, T). */
  readonly timestep: T;
}

/** Equation 1 of the online DM on the student's samples, [batch]. */
export function onlineLoss<T>(
  ops: Ops<T>,
  params: TensorMap<T>,
  { onlineScore, schedule, prediction = "epsilon" }: ScoreModels,
  sample: T,
  { scoreNoise, timestep, ...conditioning }: NoisyInputs<T>,
): T {
  const level = gatherNoiseLevels(ops, schedule, timestep);
  const noisy = addNoise(ops, sample, scoreNoise, level);
  const output = onlineScore(ops, scope(ops, params, "online"), {
    sample: noisy,
    timestep,
    ...conditioning,
  });
  return denoisingLoss(ops, output, predictionTarget(ops, prediction, sample, scoreNoise, level));
}

/**
 * The predictions of both models for one x_t, and the loss. The gradient is w(t) [s_phi(x_t, t) - s_p(x_t)] d x_t / d x_0 and the value half its
 * squared norm, both divided by a sample's elements: a mean, as the other losses are. Nothing of it carries a gradient.
 */
export interface ScoreDifference<T> extends SampleLoss<T> {
  /** The clean samples that both predict from x_t. */
  readonly onlineSample: T;
  readonly offlineSample: T;
}

/** The integrand of Equation 12 at one t for each sample. */
export function scoreDifference<T>(
  ops: Ops<T>,
  params: TensorMap<T>,
  models: ScoreModels,
  sample: T,
  { scoreNoise, timestep, ...conditioning }: NoisyInputs<T>,
): ScoreDifference<T> {
  const { onlineScore, schedule, prediction = "epsilon", scoreWeight = "dmd" } = models;
  const level = gatherNoiseLevels(ops, schedule, timestep);
  const noisy = ops.stopGradient(addNoise(ops, sample, scoreNoise, level));
  const inputs = { sample: noisy, timestep, ...conditioning };
  const toSample = (output: T): T => ops.stopGradient(predictedSample(ops, prediction, noisy, output, level));
  const onlineSample = toSample(onlineScore(ops, scope(ops, params, "online"), inputs));
  const offlineSample = toSample(guidedScore(ops, scope(ops, params, "teacher"), models, inputs));

  const distillationLoss = (x: T): T => {
    if (scoreWeight === "dmd") return distributionMatchingLoss(ops, x, { onlineSample, offlineSample });
    const { alpha, sigma } = broadcastLevel(ops, level, ops.shape(sample).length);
    const toScore = (clean: T): T => ops.div(ops.sub(ops.mul(alpha, clean), noisy), ops.mul(sigma, sigma));
    const scores = { onlineScore: toScore(onlineSample), offlineScore: toScore(offlineSample) };
    return scoreDistillationLoss(ops, x, scores, { weights: scoreDistillationWeights(ops, scoreWeight, level) });
  };
  const elements = sampleSize(ops, sample);
  const loss = differentiateBySample(ops, sample, (x) => ops.div(distillationLoss(x), elements));
  return { ...loss, onlineSample, offlineSample };
}

/** The offline model's output, away from that for the empty prompt. Both are one batch; a condition guides both. */
function guidedScore<T>(
  ops: Ops<T>,
  p: ReturnType<typeof scope<T>>,
  { offlineScore, guidance }: ScoreModels,
  inputs: NetworkInputs<T>,
): T {
  const { sample, timestep, context, condition } = inputs;
  const [batch = 1, ...contextShape] = ops.shape(context);
  const active = activeGuidance("The offline score", guidance, contextShape);
  if (active === undefined) return offlineScore(ops, p, inputs);
  const { scale, unconditional } = active;
  const empty = ops.broadcastTo(ops.constant(unconditional.data, [1, ...contextShape]), ops.shape(context));
  const twice = (x: T): T => ops.concat([x, x], 0);
  const outputs = offlineScore(ops, p, {
    sample: twice(sample),
    timestep: twice(timestep),
    context: ops.concat([empty, context], 0),
    ...(condition !== undefined && { condition: twice(condition) }),
  });
  return guided(ops, ops.slice(outputs, 0, 0, batch), ops.slice(outputs, 0, batch, batch), scale);
}
