import type { Ops } from "@sdxs/tensor";
import { checkSameShape, sumPerSample } from "./per-sample.js";

/**
 * KL divergence of a diagonal Gaussian from the standard one, (mean^2 + exp(logVariance) - 1 - logVariance) / 2,
 * summed over each sample (arXiv:1312.6114, Appendix B). It regularises an autoencoder's latents, usually times 1e-6.
 *
 * @param mean [batch, ...]
 * @param logVariance natural logarithm of the variance, same shape
 * @returns [batch], in nats, at least 0
 *
 * Throws `ShapeError` where the shapes differ.
 *
 * @example
 * const loss = ops.mean(ops.mul(klDivergence(ops, mean, logVariance), 1e-6));
 */
export function klDivergence<T>(ops: Ops<T>, mean: T, logVariance: T): T {
  checkSameShape(ops, "klDivergence", mean, logVariance);
  const excess = ops.sub(ops.sub(ops.exp(logVariance), logVariance), 1);
  return ops.mul(sumPerSample(ops, ops.add(ops.square(mean), excess)), 0.5);
}
