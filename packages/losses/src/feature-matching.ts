import type { Ops } from "@sdxs/tensor";
import { featureSimilarity, type FeatureSimilarityOptions } from "./feature-similarity.js";
import { checkFeatureLists, weightedSum } from "./feature-lists.js";
import { meanPerSample } from "./per-sample.js";

export interface FeatureMatchingOptions extends FeatureSimilarityOptions {
  /** w_l, one per feature map. Default 1 / number of maps: the paper publishes none. */
  readonly weights?: readonly number[];
}

/**
 * Feature matching, Equation 10 of the SDXS paper (https://arxiv.org/abs/2403.16627):
 *
 *     L_FM = sum_l w_l (1 - mean over channels of SSIM(f_l(x), f_l(y)))
 *
 * with SSIM as in DISTS, over whole maps. Unlike an average of feasible images, which MSE prefers, a sharp one scores well.
 *
 * @param features maps of the student's sample, each [batch, channels, ...positions], any range
 * @param targetFeatures maps of the teacher's sample, same shapes
 * @returns [batch]; 0 for equal features, at most 2 times the sum of the weights
 *
 * Throws `ShapeError` where lists or shapes differ, `InvalidArgumentError` for a tensor in place of a list.
 *
 * @example
 * const loss = ops.mean(featureMatchingLoss(ops, encode(sample), encode(target), { weights: [1, 1, 0.5] }));
 */
export function featureMatchingLoss<T>(
  ops: Ops<T>,
  features: readonly T[],
  targetFeatures: readonly T[],
  options: FeatureMatchingOptions = {},
): T {
  checkFeatureLists(ops, "featureMatchingLoss", features, targetFeatures, options.weights);
  const weights = options.weights ?? features.map(() => 1 / features.length);
  const terms = features.map((map, l) => {
    const { texture, structure } = featureSimilarity(ops, map, targetFeatures[l]!, options);
    return ops.sub(1, meanPerSample(ops, ops.mul(texture, structure))); // [batch]
  });
  return weightedSum(ops, terms, weights);
}
