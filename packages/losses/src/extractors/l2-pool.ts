import type { Ops } from "@sdxs/tensor";

/** Keeps the square root's slope finite at 0: DISTS' value. */
const EPSILON = 1e-12;

/**
 * DISTS' L2 pooling (arXiv:2004.07728, Equation 2): the square root of a blurred square, at every second pixel. It has no
 * steps, as max pooling does, so small shifts of an image change little. The blur is a 3 x 3 Hann window.
 *
 * @param x [batch, channels, height, width], any range
 * @returns [batch, channels, ceil(height / 2), ceil(width / 2)]
 */
export function l2Pool<T>(ops: Ops<T>, x: T): T {
  const [batch = 1, channels = 1, height = 1, width = 1] = ops.shape(x);
  const planes = ops.reshape(ops.square(x), [batch * channels, 1, height, width]);
  const window = ops.constant(
    Float32Array.of(1, 2, 1, 2, 4, 2, 1, 2, 1).map((weight) => weight / 16),
    [1, 1, 3, 3],
  );
  const blurred = ops.conv2d(planes, window, undefined, { stride: 2, padding: 1 });
  const [, , newHeight = 1, newWidth = 1] = ops.shape(blurred);
  return ops.reshape(ops.sqrt(ops.add(blurred, EPSILON)), [batch, channels, newHeight, newWidth]);
}
