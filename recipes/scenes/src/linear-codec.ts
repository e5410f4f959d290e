import { EigenvalueDecomposition, Matrix } from "ml-matrix";
import { HostTensor } from "@sdxs/tensor";

/** Pixels of a latent's side. */
export const blockSize = 8;

/** The best linear codec of blocks of pixels: latents are convolutions of stride `blockSize`. */
export interface LinearCodec {
  /** [latents, 3, blockSize, blockSize] */
  readonly weight: HostTensor;
  /** [latents] */
  readonly bias: HostTensor;
  /** Mean squared error of what the latents tell of the pixels. */
  readonly error: number;
}

/**
 * Principal components of the blocks of pictures. Latents have the fourth root of their variances as standard deviations,
 * times a common factor by which their mean square is 1: halfway between those of pixels, where the first few would be all
 * that a diffusion model learns, and equal ones, by which it would learn the finest detail like the coarsest.
 *
 * @param images [count, 3, height, width], sizes divisible by `blockSize`
 * @param stride every so many blocks are looked at
 */
export function principalComponents({ shape, data }: HostTensor, latents: number, stride = 1): LinearCodec {
  const [count = 0, , height = 0, width = 0] = shape;
  const perPicture = (height * width) / blockSize ** 2;
  const blocks: number[][] = [];
  for (let index = 0; index < count * perPicture; index += stride) {
    const [picture, place] = [Math.floor(index / perPicture), index % perPicture];
    const [top, left] = [Math.floor((place * blockSize) / width) * blockSize, (place * blockSize) % width];
    blocks.push(
      Array.from({ length: 3 * blockSize ** 2 }, (_, i) => {
        const [channel, pixel] = [Math.floor(i / blockSize ** 2), i % blockSize ** 2];
        const [row, column] = [top + Math.floor(pixel / blockSize), left + (pixel % blockSize)];
        return data[((picture * 3 + channel) * height + row) * width + column]!;
      }),
    );
  }
  const matrix = new Matrix(blocks);
  const means = matrix.mean("column");
  matrix.subRowVector(means);
  const covariance = matrix.transpose().mmul(matrix).div(blocks.length);
  const { realEigenvalues, eigenvectorMatrix } = new EigenvalueDecomposition(covariance, { assumeSymmetric: true });
  const order = realEigenvalues
    .map((variance, column) => ({ variance, column }))
    .sort((a, b) => b.variance - a.variance);
  const kept = order.slice(0, latents);
  const common = Math.sqrt(kept.reduce((sum, { variance }) => sum + Math.sqrt(variance), 0) / latents);
  const weights = kept.map(({ variance, column }) =>
    eigenvectorMatrix.getColumn(column).map((value) => value / variance ** 0.25 / common),
  );
  return {
    weight: HostTensor.from([latents, 3, blockSize, blockSize], weights.flat()),
    bias: HostTensor.from(
      [latents],
      weights.map((row) => -row.reduce((sum, value, i) => sum + value * means[i]!, 0)),
    ),
    error: order.slice(latents).reduce((sum, { variance }) => sum + variance, 0) / means.length,
  };
}
