import type { Ops } from "@sdxs/tensor";

/** Weight of a pixel, by its distance from the sampled position. */
export interface ResamplingKernel {
  /** From this distance on weights are 0. */
  readonly reach: number;
  weight(distance: number): number;
}

/** Linear interpolation. */
export const triangle: ResamplingKernel = { reach: 1, weight: (distance) => Math.max(0, 1 - Math.abs(distance)) };

/** Cubic convolution (Keys 1981, doi:10.1109/TASSP.1981.1163711); `a` is the slope at distance 1. */
export function cubic(a: number): ResamplingKernel {
  return {
    reach: 2,
    weight(distance) {
      const d = Math.abs(distance);
      if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
      return d < 2 ? a * (((d - 5) * d + 8) * d - 4) : 0;
    },
  };
}

/**
 * Resizes the last two axes as PyTorch's `interpolate` with align_corners=False does.
 *
 * @param antialias where the image shrinks, stretch the kernel over all pixels that a new one covers. Pixels
 *   beyond the border then have weight 0; without, the border's pixel is repeated there.
 */
export function resample<T>(
  ops: Ops<T>,
  x: T,
  [height, width]: readonly [number, number],
  kernel: ResamplingKernel,
  antialias: boolean,
): T {
  const [fromHeight = 1, fromWidth = 1] = ops.shape(x).slice(-2);
  const matrix = (from: number, to: number): T =>
    ops.constant(resamplingMatrix(from, to, kernel, antialias), [to, from]);
  const narrowed = ops.matmul(x, matrix(fromWidth, width), { transposeB: true }); // [..., fromHeight, width]
  return ops.matmul(matrix(fromHeight, height), narrowed); // [..., height, width]
}

/** One axis as a product with a matrix [to, from], whose rows sum to 1. */
function resamplingMatrix(
  from: number,
  to: number,
  kernel: ResamplingKernel,
  antialias: boolean,
): Float32Array<ArrayBuffer> {
  const scale = from / to;
  const stretch = antialias ? Math.max(scale, 1) : 1;
  const reach = kernel.reach * stretch;
  const matrix = new Float32Array(to * from);
  for (let i = 0; i < to; i++) {
    const center = (i + 0.5) * scale - 0.5; // where the centre of pixel i lies between the old ones
    const taps: { readonly pixel: number; readonly weight: number }[] = [];
    for (let j = Math.ceil(center - reach); j <= Math.floor(center + reach); j++) {
      const pixel = Math.min(Math.max(j, 0), from - 1);
      if (antialias && pixel !== j) continue;
      taps.push({ pixel, weight: kernel.weight((j - center) / stretch) });
    }
    const total = taps.reduce((sum, { weight }) => sum + weight, 0);
    for (const { pixel, weight } of taps) matrix[i * from + pixel]! += weight / total;
  }
  return matrix;
}
