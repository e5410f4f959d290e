import { InvalidArgumentError, type Ops } from "@sdxs/tensor";
import { checkSameShape, meanPerSample } from "./per-sample.js";

export interface HuberOptions {
  /** Difference at which the loss turns from quadratic to linear; above 0. Default 1, as PyTorch. */
  readonly delta?: number;
}

/**
 * Huber loss: d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2), with d = prediction - target (Huber 1964).
 *
 * @param prediction [batch, ...], any range
 * @param target same shape
 * @returns [batch]
 *
 * Throws `ShapeError` where the shapes differ, `InvalidArgumentError` for a delta that is not above 0.
 *
 * @example
 * const loss = ops.mean(huber(ops, prediction, target, { delta: 0.5 }));
 */
export function huber<T>(ops: Ops<T>, prediction: T, target: T, options: HuberOptions = {}): T {
  const { delta = 1 } = options;
  checkSameShape(ops, "huber", prediction, target);
  if (!(delta > 0)) throw new InvalidArgumentError(`huber: delta must be above 0, got ${delta}.`);
  const size = ops.abs(ops.sub(prediction, target));
  const quadratic = ops.minimum(size, delta); // the part of |d| that counts quadratically
  const linear = ops.sub(size, quadratic);
  return meanPerSample(ops, ops.add(ops.mul(ops.square(quadratic), 0.5), ops.mul(linear, delta)));
}
