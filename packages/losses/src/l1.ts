import type { Ops } from "@sdxs/tensor";
import { checkSameShape, meanPerSample } from "./per-sample.js";

/**
 * Mean absolute error, mean(|prediction - target|). Its gradient at equality is 0.
 *
 * @param prediction [batch, ...], any range
 * @param target same shape
 * @returns [batch]
 *
 * Throws `ShapeError` where the shapes differ.
 *
 * @example
 * const loss = ops.mean(l1(ops, decoded, image));
 */
export function l1<T>(ops: Ops<T>, prediction: T, target: T): T {
  checkSameShape(ops, "l1", prediction, target);
  return meanPerSample(ops, ops.abs(ops.sub(prediction, target)));
}
