import { checkFields, unknownName, type Ops } from "@sdxs/tensor";
import { checkLevel, checkPerSample, checkSameShape, meanPerSample, sumPerSample } from "./per-sample.js";

export interface ScoreDistillationOptions<T> {
  /** A weight per sample, [batch], as `scoreDistillationWeights` gives. Default: 1 each. */
  readonly weights?: T;
}

/**
 * Score distillation: a loss whose gradient is F of the SDXS paper's Equation 12 (https://arxiv.org/abs/2403.16627),
 * that of the integral KL divergence in Equation 4,
 *
 *     d loss / d sample = w (onlineScore - offlineScore)
 *
 * exactly, not divided by the number of elements. Its value is half the squared norm of that gradient, which is 0 where
 * the student's distribution is the teacher's. No gradient flows into scores or weights.
 *
 * Scores are d log p(x_t) / d x_t = -noise / sigma, with the noise that a network predicts (`predictedNoise` of
 * `@sdxs/diffusion`), both at one x_t = alpha x_0 + sigma noise.
 *
 * @param sample the student's x_0 [batch, ...]. The equation's dx_t / dx_0 = alpha is then part of the weights. Given x_t
 *   itself, it is not, and the gradient flows on through x_t
 * @param scores that of the online model, trained on the student's samples, and that of the pretrained offline model;
 *   same shape
 * @returns [batch]
 *
 * Throws `ShapeError` where the shapes differ or `weights` is not [batch].
 *
 * @example
 * const weights = scoreDistillationWeights(ops, "diff-instruct", level);
 * const loss = ops.mean(scoreDistillationLoss(ops, sample, { onlineScore, offlineScore }, { weights }));
 */
export function scoreDistillationLoss<T>(
  ops: Ops<T>,
  sample: T,
  scores: { readonly onlineScore: T; readonly offlineScore: T },
  options: ScoreDistillationOptions<T> = {},
): T {
  checkFields("scoreDistillationLoss", "scores", scores, ["onlineScore", "offlineScore"]);
  const { onlineScore, offlineScore } = scores;
  checkSameShape(ops, "scoreDistillationLoss", sample, onlineScore);
  checkSameShape(ops, "scoreDistillationLoss", onlineScore, offlineScore);
  const difference = ops.sub(onlineScore, offlineScore);
  const { weights } = options;
  if (weights === undefined) return lossOfGradient(ops, sample, difference);
  checkPerSample(ops, "scoreDistillationLoss", "weights", weights, ops.shape(sample)[0] ?? 1);
  return lossOfGradient(ops, sample, ops.mul(difference, broadcastPerSample(ops, weights, sample)));
}

/**
 * Weights of `scoreDistillationLoss` by the student's x_0, as published:
 *
 *     diff-instruct  alpha    w(t) = 1 in Equation 4 (arXiv:2305.18455), times dx_t / dx_0
 *     swiftbrush     sigma^3  sigma^2 times the difference of predicted noises (arXiv:2312.05239), noise = -sigma score
 *
 * @param level alpha and sigma of x_t = alpha x_0 + sigma noise, each [batch]
 * @returns [batch]
 */
export function scoreDistillationWeights<T>(
  ops: Ops<T>,
  method: "diff-instruct" | "swiftbrush",
  level: { readonly alpha: T; readonly sigma: T },
): T {
  checkLevel(ops, "scoreDistillationWeights", level);
  switch (method) {
    case "diff-instruct":
      return level.alpha;
    case "swiftbrush":
      return ops.mul(level.sigma, ops.square(level.sigma));
  }
  throw unknownName("scoreDistillationWeights", "method", method, ["diff-instruct", "swiftbrush"]);
}

/** Keeps the normalisation finite where the offline model predicts the very sample. Chosen: far below any latent's scale. */
const LEAST_DISTANCE = 1e-6;

/**
 * Score distillation as DMD normalises it (arXiv:2311.18828, Equations 7 and 8): the gradient by the student's x_0 is
 *
 *     d loss / d sample = (onlineSample - offlineSample) / mean(|sample - offlineSample|)
 *
 * with the mean over each sample's elements. It is `scoreDistillationLoss` with scores written as predictions of x_0,
 * whose difference is alpha / sigma^2 times as large, and weights that make all noise levels count alike. Value and
 * gradients otherwise as there; divide by the number of elements for the scale of DMD's own code, which takes a mean.
 *
 * @param sample the student's x_0 [batch, ...]
 * @param predictions x_0 as the online and the offline model predict it from one x_t (`predictedSample` of
 *   `@sdxs/diffusion`); same shape
 * @returns [batch]
 *
 * Throws `ShapeError` where the shapes differ.
 *
 * @example
 * const loss = ops.mean(distributionMatchingLoss(ops, sample, { onlineSample, offlineSample }));
 */
export function distributionMatchingLoss<T>(
  ops: Ops<T>,
  sample: T,
  predictions: { readonly onlineSample: T; readonly offlineSample: T },
): T {
  checkFields("distributionMatchingLoss", "predictions", predictions, ["onlineSample", "offlineSample"]);
  const { onlineSample, offlineSample } = predictions;
  checkSameShape(ops, "distributionMatchingLoss", sample, onlineSample);
  checkSameShape(ops, "distributionMatchingLoss", onlineSample, offlineSample);
  const distance = ops.maximum(meanPerSample(ops, ops.abs(ops.sub(sample, offlineSample))), LEAST_DISTANCE);
  const difference = ops.sub(onlineSample, offlineSample);
  return lossOfGradient(ops, sample, ops.div(difference, broadcastPerSample(ops, distance, sample)));
}

/**
 * || gradient ||_2^2 / 2 of each sample, whose gradient by `sample` is `gradient`. Equal to
 * || sample - stop(sample - gradient) ||_2^2 / 2, but small gradients lose no digits beside the sample.
 */
function lossOfGradient<T>(ops: Ops<T>, sample: T, gradient: T): T {
  const constant = ops.stopGradient(gradient);
  const zero = ops.sub(sample, ops.stopGradient(sample));
  return sumPerSample(ops, ops.mul(constant, ops.add(ops.mul(constant, 0.5), zero)));
}

/** Values [batch] in a shape that broadcasts to that of `like` [batch, ...]. */
function broadcastPerSample<T>(ops: Ops<T>, values: T, like: T): T {
  return ops.reshape(values, [
    -1,
    ...ops
      .shape(like)
      .slice(1)
      .map(() => 1),
  ]);
}
