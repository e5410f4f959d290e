import type { Ops } from "@sdxs/tensor";
import { checkSameShape } from "./per-sample.js";

export interface FeatureSimilarityOptions {
  /** Stabilises the texture term where both means are near 0. Default 1e-6, that of DISTS. */
  readonly c1?: number;
  /** Stabilises the structure term where both variances are near 0. Default 1e-6, that of DISTS. */
  readonly c2?: number;
}

export interface FeatureSimilarity<T> {
  /** (2 mean_x mean_y + c1) / (mean_x^2 + mean_y^2 + c1), [batch, channels], in [-1, 1]. */
  readonly texture: T;
  /** (2 covariance + c2) / (variance_x + variance_y + c2), [batch, channels], in [-1, 1]. */
  readonly structure: T;
}

/**
 * The two terms of SSIM over whole feature maps, as in DISTS (arXiv:2004.07728).
 * Statistics are taken per channel over all positions; variances are the biased ones.
 * Their product is the SSIM of the SDXS paper's Equation 10 (https://arxiv.org/abs/2403.16627).
 *
 * @param x [batch, channels, ...positions], any range; transpose token features [batch, tokens, channels] first
 * @param y same shape
 *
 * Throws `ShapeError` where the shapes differ or there are no positions.
 *
 * @example
 * const { texture, structure } = featureSimilarity(ops, features, teacherFeatures);
 */
export function featureSimilarity<T>(
  ops: Ops<T>,
  x: T,
  y: T,
  options: FeatureSimilarityOptions = {},
): FeatureSimilarity<T> {
  const { c1 = 1e-6, c2 = 1e-6 } = options;
  checkSameShape(ops, "featureSimilarity", x, y, 3);
  const [batch = 1, channels = 1] = ops.shape(x);
  const positions = { axes: [2] };
  const mapX = ops.reshape(x, [batch, channels, -1]); // [batch, channels, positions]
  const mapY = ops.reshape(y, [batch, channels, -1]);
  const meanX = ops.mean(mapX, { ...positions, keepDims: true }); // [batch, channels, 1]
  const meanY = ops.mean(mapY, { ...positions, keepDims: true });
  const centeredX = ops.sub(mapX, meanX);
  const centeredY = ops.sub(mapY, meanY);
  const variances = ops.mean(ops.add(ops.square(centeredX), ops.square(centeredY)), positions);
  const covariance = ops.mean(ops.mul(centeredX, centeredY), positions);
  const texture = ops.div(
    ops.add(ops.mul(ops.mul(meanX, meanY), 2), c1),
    ops.add(ops.add(ops.square(meanX), ops.square(meanY)), c1),
  );
  return {
    texture: ops.reshape(texture, [batch, channels]),
    structure: ops.div(ops.add(ops.mul(covariance, 2), c2), ops.add(variances, c2)),
  };
}
