import { InvalidArgumentError, ShapeError, layoutHint, type Ops } from "@sdxs/tensor";
import { checkSameShape, meanPerSample } from "./per-sample.js";

export interface GaussianSsimOptions {
  /** Largest minus smallest possible pixel value: 2 for images in [-1, 1], 1 for [0, 1], 255 for bytes. */
  readonly dataRange: number;
}

/** Standard deviation of the window in pixels and its side, Section III of Wang et al. 2004. */
const WINDOW_SIGMA = 1.5;
export const WINDOW_SIZE = 11;
/** K_1 and K_2 of the same section. */
const K1 = 0.01;
const K2 = 0.03;

/**
 * SSIM under an 11 x 11 Gaussian window (Wang et al. 2004, doi:10.1109/TIP.2003.819861, Equation 13), a similarity.
 * It equals scikit-image's `structural_similarity` with `gaussian_weights=True, sigma=1.5, use_sample_covariance=False`:
 * the mean over pixels whose window is inside the image, and over channels.
 *
 * @param x images [batch, channels, height, width], height and width at least 11
 * @param y same shape
 * @returns [batch], 1 for equal images
 *
 * Throws `ShapeError` where the shapes differ or the images are too small, `InvalidArgumentError` for a bad range.
 *
 * @example
 * const loss = ops.mean(ops.sub(1, gaussianSsim(ops, decoded, image, { dataRange: 2 })));
 */
export function gaussianSsim<T>(ops: Ops<T>, x: T, y: T, options: GaussianSsimOptions): T {
  return meanPerSample(ops, gaussianSsimMap(ops, x, y, options));
}

/** SSIM of each window: [batch, channels, height - 10, width - 10]. Arguments and errors as in `gaussianSsim`. */
export function gaussianSsimMap<T>(ops: Ops<T>, x: T, y: T, options: GaussianSsimOptions): T {
  const { luminance, contrastStructure } = ssimTerms(ops, "gaussianSsim", x, y, options);
  return ops.mul(luminance, contrastStructure);
}

/** The two factors of SSIM, Equations 6 and 9 with 10, of each window: [batch, channels, height - 10, width - 10]. */
export function ssimTerms<T>(
  ops: Ops<T>,
  where: string,
  x: T,
  y: T,
  options: GaussianSsimOptions | undefined,
): { readonly luminance: T; readonly contrastStructure: T } {
  checkSameShape(ops, where, x, y, 4);
  const [batch = 1, channels = 1, height = 0, width = 0] = ops.shape(x);
  if (height < WINDOW_SIZE || width < WINDOW_SIZE) {
    throw new ShapeError(
      `${where}: images must be at least ${WINDOW_SIZE} pixels high and wide, got ${height} x ${width}.` +
        layoutHint(ops.shape(x)),
    );
  }
  const dataRange = options?.dataRange; // of callers in plain JavaScript
  if (dataRange === undefined || !(dataRange > 0)) {
    throw new InvalidArgumentError(
      `${where}: the option dataRange must be above 0, got ${dataRange}. Give { dataRange: 2 } for images in [-1, 1].`,
    );
  }

  // The five local means in one pass of a separable filter.
  const planes = [x, y, ops.square(x), ops.square(y), ops.mul(x, y)];
  const filtered = filterPlanes(ops, ops.reshape(ops.concat(planes, 0), [-1, 1, height, width]));
  const valid = [height - WINDOW_SIZE + 1, width - WINDOW_SIZE + 1] as const;
  const stacked = ops.reshape(filtered, [planes.length * batch, channels, ...valid]);
  const localMean = (plane: number): T => ops.slice(stacked, 0, plane * batch, batch);
  const [meanX, meanY, meanXX, meanYY, meanXY] = [0, 1, 2, 3, 4].map(localMean) as [T, T, T, T, T];

  const c1 = (K1 * dataRange) ** 2;
  const c2 = (K2 * dataRange) ** 2;
  const product = ops.mul(meanX, meanY);
  const squares = ops.add(ops.square(meanX), ops.square(meanY));
  const covariance = ops.sub(meanXY, product);
  const variances = ops.sub(ops.add(meanXX, meanYY), squares);
  return {
    luminance: ops.div(ops.add(ops.mul(product, 2), c1), ops.add(squares, c1)),
    contrastStructure: ops.div(ops.add(ops.mul(covariance, 2), c2), ops.add(variances, c2)),
  };
}

/** Gaussian means of planes [planes, 1, height, width] over all windows that lie inside. */
function filterPlanes<T>(ops: Ops<T>, planes: T): T {
  const weights = Array.from({ length: WINDOW_SIZE }, (_, i) =>
    Math.exp(-((i - (WINDOW_SIZE - 1) / 2) ** 2) / (2 * WINDOW_SIGMA ** 2)),
  );
  const total = weights.reduce((a, b) => a + b);
  const window = Float32Array.from(weights, (weight) => weight / total);
  const columns = ops.conv2d(planes, ops.constant(window, [1, 1, WINDOW_SIZE, 1]), undefined);
  return ops.conv2d(columns, ops.constant(window, [1, 1, 1, WINDOW_SIZE]), undefined);
}
