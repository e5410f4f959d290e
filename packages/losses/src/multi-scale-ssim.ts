import { InvalidArgumentError, ShapeError, layoutHint, type Ops } from "@sdxs/tensor";
import { WINDOW_SIZE, ssimTerms, type GaussianSsimOptions } from "./gaussian-ssim.js";
import { checkSameShape, meanPerSample } from "./per-sample.js";

export interface MultiScaleSsimOptions extends GaussianSsimOptions {
  /** Exponent of each scale, full resolution first; fewer for small images. Default the five of Wang et al. 2003. */
  readonly weights?: readonly number[];
}

/** Section 3.2 of Wang et al. 2003. */
const WEIGHTS = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333];

/** A similarity below counts as this much, since the slope of a power below 1 is infinite at 0. Chosen. */
const LEAST_SIMILARITY = 1e-6;

/**
 * Multi-scale SSIM (Wang et al. 2003, doi:10.1109/ACSSC.2003.1292216, Equation 7), a similarity: the product over scales of
 * contrast and structure, of luminance too at the last, each averaged over windows and raised to its weight. Each scale
 * halves the one before by 2 x 2 means. Windows and constants are those of `gaussianSsim`; channels are averaged.
 *
 * Where a scale's similarity is negative the product is 0, without a gradient, as in TensorFlow's `ssim_multiscale`.
 *
 * @param x images [batch, channels, height, width]; with n weights, sizes divisible by 2^(n-1) and at least 11 times it,
 *   176 by default
 * @param y same shape
 * @returns [batch], 1 for equal images
 *
 * Throws `ShapeError` where the shapes differ or do not allow that many scales, `InvalidArgumentError` for a bad range or
 * no weights.
 *
 * @example
 * const loss = ops.mean(ops.sub(1, multiScaleSsim(ops, decoded, image, { dataRange: 2 })));
 */
export function multiScaleSsim<T>(ops: Ops<T>, x: T, y: T, options: MultiScaleSsimOptions): T {
  const { weights = WEIGHTS } = (options as MultiScaleSsimOptions | undefined) ?? {};
  checkSameShape(ops, "multiScaleSsim", x, y, 4);
  if (weights.length === 0) throw new InvalidArgumentError("multiScaleSsim: at least one weight is needed, got none.");
  const [, , height = 0, width = 0] = ops.shape(x);
  const reduction = 2 ** (weights.length - 1);
  if (height % reduction !== 0 || width % reduction !== 0 || Math.min(height, width) < WINDOW_SIZE * reduction) {
    throw new ShapeError(
      `multiScaleSsim: ${weights.length} scales need sizes divisible by ${reduction} and of at least ` +
        `${WINDOW_SIZE * reduction} pixels, got ${height} x ${width}. Crop the images or give fewer weights.` +
        layoutHint(ops.shape(x)),
    );
  }
  let [scaledX, scaledY] = [x, y];
  const factors = weights.map((weight, scale) => {
    if (scale > 0) [scaledX, scaledY] = [ops.avgPool2d(scaledX, 2), ops.avgPool2d(scaledY, 2)];
    const { luminance, contrastStructure } = ssimTerms(ops, "multiScaleSsim", scaledX, scaledY, options);
    const isLast = scale === weights.length - 1;
    const similarity = isLast ? ops.mul(luminance, contrastStructure) : contrastStructure;
    return positivePower(ops, ops.mean(similarity, { axes: [2, 3] }), weight); // [batch, channels]
  });
  return meanPerSample(
    ops,
    factors.reduce((product, factor) => ops.mul(product, factor)),
  );
}

/** x ** exponent where x is above 0, else 0. */
function positivePower<T>(ops: Ops<T>, x: T, exponent: number): T {
  return ops.where(ops.greater(x, 0), ops.pow(ops.maximum(x, LEAST_SIMILARITY), exponent), 0);
}
