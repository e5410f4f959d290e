import { reducedShape } from "../core/shapes.js";
import { sizeOf } from "../core/host-tensor.js";
import type { Tensor, TensorFlow } from "./lazy.js";

/** Chosen: the rounding errors of 2^10 float32 additions come to 1e-6 or so. */
const LONGEST_SUM = 2 ** 10;

/**
 * Sum over axes. tfjs-wasm adds up one element after the other in float32, so that the
 * rounding error grows with the number of elements; there it is a sum of sums.
 */
export function sum(tf: TensorFlow, x: Tensor, axes: readonly number[], keepDims: boolean): Tensor {
  if (tf.getBackend() !== "wasm") return tf.sum(x, [...axes], keepDims);
  // The last axis first: its elements are contiguous, and less remains to be transposed.
  const result = [...axes].sort((a, b) => b - a).reduce((partial, axis) => sumOfAxis(tf, partial, axis), x);
  return tf.reshape(result, [...reducedShape(x.shape, axes, keepDims)]);
}

/** Sum over one axis, which is kept with size 1. */
function sumOfAxis(tf: TensorFlow, x: Tensor, axis: number): Tensor {
  const size = x.shape[axis] ?? 1;
  let part = Math.min(size, LONGEST_SUM);
  while (part > 1 && size % part !== 0) part -= 1;
  if (part === size || part === 1) return tf.sum(x, axis, true);
  const parts = [sizeOf(x.shape.slice(0, axis)), size / part, part, sizeOf(x.shape.slice(axis + 1))];
  const sums = tf.sum(tf.reshape(x, parts), 2); // [before, size / part, after]
  const shape = x.shape.map((old, i) => (i === axis ? size / part : old));
  return sumOfAxis(tf, tf.reshape(sums, shape), axis);
}
