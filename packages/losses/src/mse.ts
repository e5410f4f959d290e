import type { Ops } from "@sdxs/tensor";
import { checkSameShape, meanPerSample } from "./per-sample.js";

/**
 * Mean squared error, mean((prediction - target)^2).
 *
 * @param prediction [batch, ...], any range
 * @param target same shape
 * @returns [batch]
 *
 * Throws `ShapeError` where the shapes differ.
 *
 * @example
 * const loss = ops.mean(mse(ops, prediction, target));
 */
export function mse<T>(ops: Ops<T>, prediction: T, target: T): T {
  checkSameShape(ops, "mse", prediction, target);
  return meanPerSample(ops, ops.square(ops.sub(prediction, target)));
}
