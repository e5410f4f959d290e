import { InvalidArgumentError, type Ops } from "@sdxs/tensor";
import { checkSameShape, meanPerSample } from "./per-sample.js";

export interface PseudoHuberOptions {
  /** Width of the quadratic part; above 0. Default 0.001, the value of LCM's published training. */
  readonly c?: number;
}

/**
 * Pseudo-Huber loss, sqrt(d^2 + c^2) - c with d = prediction - target (arXiv:2310.14189, here per element).
 *
 * @param prediction [batch, ...], any range
 * @param target same shape
 * @returns [batch]
 *
 * Throws `ShapeError` where the shapes differ, `InvalidArgumentError` for a c that is not above 0.
 *
 * @example
 * const loss = ops.mean(pseudoHuber(ops, prediction, target, { c: 0.03 }));
 */
export function pseudoHuber<T>(ops: Ops<T>, prediction: T, target: T, options: PseudoHuberOptions = {}): T {
  const { c = 0.001 } = options;
  checkSameShape(ops, "pseudoHuber", prediction, target);
  if (!(c > 0)) throw new InvalidArgumentError(`pseudoHuber: c must be above 0, got ${c}.`);
  const difference = ops.sub(prediction, target);
  return meanPerSample(ops, ops.sub(ops.sqrt(ops.add(ops.square(difference), c * c)), c));
}
