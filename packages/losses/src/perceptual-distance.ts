import { ShapeError, type Ops } from "@sdxs/tensor";
import { checkFeatureLists } from "./feature-lists.js";
import { checkSameShape } from "./per-sample.js";

export interface PerceptualDistanceOptions<T> {
  /**
   * How much each channel counts, [channels] for each feature map: LPIPS' learned "lin" layers, at least 0.
   * Default: 1 each, LPIPS without calibration.
   */
  readonly channelWeights?: readonly T[];
}

/**
 * Added to squared norms, so that a position where all channels are 0 has a gradient. LPIPS adds as much to the norm
 * itself, which has none there.
 */
const EPSILON = 1e-10;

/**
 * LPIPS' distance of two images by a network's features (arXiv:1801.03924, Equation 1):
 *
 *     sum_l mean over positions of sum over channels c of w_lc (x_lc / |x_l| - y_lc / |y_l|)^2
 *
 * with |x_l| the norm over the channels of one position.
 *
 * @param features maps of the image, each [batch, channels, ...positions], any range
 * @param targetFeatures maps of the other image, same shapes
 * @returns [batch]; 0 for equal features, at most 4 times the number of maps without weights
 *
 * Throws `ShapeError` where lists or shapes differ, or weights are not [channels].
 *
 * @example
 * const features = (x: T) => vgg16Features(ops, scope(ops, vgg), x); // @sdxs/losses/extractors
 * const loss = ops.mean(perceptualDistance(ops, features(decoded), features(image)));
 */
export function perceptualDistance<T>(
  ops: Ops<T>,
  features: readonly T[],
  targetFeatures: readonly T[],
  options: PerceptualDistanceOptions<T> = {},
): T {
  const { channelWeights } = options;
  checkFeatureLists(ops, "perceptualDistance", features, targetFeatures, channelWeights);
  const terms = features.map((map, l) => {
    checkSameShape(ops, "perceptualDistance", map, targetFeatures[l]!, 3);
    const [batch = 1, channels = 1] = ops.shape(map);
    const unit = (x: T): T => unitVectors(ops, ops.reshape(x, [batch, channels, -1])); // [batch, channels, positions]
    const difference = ops.square(ops.sub(unit(map), unit(targetFeatures[l]!)));
    const perChannel = ops.mean(difference, { axes: [2] }); // [batch, channels]
    const weights = channelWeights?.[l];
    if (weights === undefined) return ops.sum(perChannel, { axes: [1] });
    const shape = ops.shape(weights);
    if (shape.length !== 1 || shape[0] !== channels) {
      throw new ShapeError(
        `perceptualDistance: the weights of feature ${l} must be [${channels}], got [${shape.join(", ")}].`,
      );
    }
    return ops.sum(ops.mul(perChannel, weights), { axes: [1] });
  });
  return terms.reduce((sum, term) => ops.add(sum, term));
}

/** Each position's channels divided by their norm. x [batch, channels, positions]. */
function unitVectors<T>(ops: Ops<T>, x: T): T {
  const squared = ops.sum(ops.square(x), { axes: [1], keepDims: true });
  return ops.div(x, ops.sqrt(ops.add(squared, EPSILON)));
}
