import { InvalidArgumentError, unknownName, type Ops } from "@sdxs/tensor";
import { checkLevel, checkPerSample, checkSameShape, meanPerSample } from "./per-sample.js";

export interface DenoisingOptions<T> {
  /** A weight per sample, [batch], as `minSnrWeights` gives. Default: 1 each. */
  readonly weights?: T;
}

/**
 * The denoising loss of a diffusion model, Equation 1 of the SDXS paper (https://arxiv.org/abs/2403.16627):
 *
 *     L_DM = || output - target ||_2^2
 *
 * as a mean over elements. The target is the noise, the velocity or the clean sample, whichever the model predicts.
 *
 * @param output the network's output for the noisy sample, [batch, ...]
 * @param target the desired output, same shape
 * @returns [batch]
 *
 * Throws `ShapeError` where the shapes differ or `weights` is not [batch].
 *
 * @example
 * const target = predictionTarget(ops, "epsilon", clean, noise, level); // @sdxs/diffusion
 * const loss = ops.mean(denoisingLoss(ops, output, target, { weights: minSnrWeights(ops, "epsilon", level) }));
 */
export function denoisingLoss<T>(ops: Ops<T>, output: T, target: T, options: DenoisingOptions<T> = {}): T {
  checkSameShape(ops, "denoisingLoss", output, target);
  const error = meanPerSample(ops, ops.square(ops.sub(output, target)));
  if (options.weights === undefined) return error;
  checkPerSample(ops, "denoisingLoss", "weights", options.weights, ops.shape(output)[0] ?? 1);
  return ops.mul(error, options.weights);
}

/**
 * Min-SNR weights (arXiv:2303.09556): min(snr, gamma) for a prediction of x_0, that divided by snr for epsilon
 * and by snr + 1 for v. They keep the nearly clean timesteps from dominating.
 *
 * @param prediction the kind of the network's output
 * @param level alpha and sigma of x_t = alpha x_0 + sigma noise, each [batch]; snr = alpha^2 / sigma^2
 * @param gamma above 0. Default 5, the paper's
 * @returns [batch]
 */
export function minSnrWeights<T>(
  ops: Ops<T>,
  prediction: "epsilon" | "v_prediction" | "sample",
  level: { readonly alpha: T; readonly sigma: T },
  gamma = 5,
): T {
  checkLevel(ops, "minSnrWeights", level);
  if (!(gamma > 0)) throw new InvalidArgumentError(`minSnrWeights: gamma must be above 0, got ${gamma}.`);
  const signal = ops.square(level.alpha);
  const noise = ops.square(level.sigma);
  switch (prediction) {
    case "epsilon": // min(snr, gamma) / snr, which is 1 at snr = 0
      return ops.minimum(1, ops.div(ops.mul(noise, gamma), signal));
    case "v_prediction": // snr + 1 = 1 / sigma^2 for a variance-preserving process
      return ops.div(ops.minimum(signal, ops.mul(noise, gamma)), ops.add(signal, noise));
    case "sample":
      return ops.minimum(ops.div(signal, noise), gamma);
  }
  throw unknownName("minSnrWeights", "prediction", prediction, ["epsilon", "v_prediction", "sample"]);
}
