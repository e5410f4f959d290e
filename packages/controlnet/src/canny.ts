import { HostTensor, InvalidArgumentError, ShapeError, hostShape, layoutHint, sizeOf } from "@sdxs/tensor";

export interface CannyOptions {
  /** A pixel whose gradient is above this is an edge if it is connected with one above the other. Default 100. */
  readonly lowThreshold?: number;
  /** Default 200. Gradients are those of OpenCV: Sobel's over values from 0 to 255, up to 2040 by "L1". */
  readonly highThreshold?: number;
  /** Of a gradient's size: |x| + |y|, or the square root of x^2 + y^2. Default "L1", OpenCV's. */
  readonly norm?: "L1" | "L2";
}

/** The value of edge pixels; others are 0. */
const CANDIDATE = 1;
const EDGE = 2;

/** tan(22.5 degrees) in units of 2^-15, as OpenCV rounds it. */
const TANGENT = 13573;

/**
 * Canny's edges: what the canny ControlNets are trained on, as `cv2.Canny(image, low, high)` of OpenCV finds them, pixel
 * for pixel. Sobel gradients; thinning along their direction; hysteresis over eight neighbours. Of several channels each
 * pixel takes the one with the largest gradient.
 *
 * J. Canny, "A Computational Approach to Edge Detection", IEEE TPAMI 8(6), 1986. Nothing is smoothed beforehand.
 *
 * @param images [batch, channels, height, width] in [-1, 1], rounded to 256 values
 * @returns [batch, 3, height, width], 1 at edges and 0 elsewhere: a ControlNet's condition
 *
 * Throws `ShapeError` for other shapes, `InvalidArgumentError` for thresholds that are not 0 <= low <= high.
 *
 * @example
 * const condition = canny(image, { lowThreshold: 100, highThreshold: 200 });
 */
export function canny(images: HostTensor, options: CannyOptions = {}): HostTensor {
  const { lowThreshold: low = 100, highThreshold: high = 200, norm = "L1" } = options;
  const shape = hostShape("canny", "images", images);
  if (shape.length !== 4 || sizeOf(shape) === 0 || layoutHint(shape) !== "") {
    throw new ShapeError(
      `canny: expected images [batch, channels, height, width], got [${shape.join(", ")}].` + layoutHint(shape),
    );
  }
  if (!(low >= 0 && high >= low && high < Infinity)) {
    throw new InvalidArgumentError(
      `canny: expected 0 <= lowThreshold <= highThreshold, got ${low} and ${high}. OpenCV's examples use 100 and 200.`,
    );
  }
  const [batch, channels, height, width] = images.shape as [number, number, number, number];
  const area = height * width;
  const edges = new Float32Array(batch * 3 * area);
  for (let row = 0; row < batch; row++) {
    const pixels = images.data.subarray(row * channels * area, (row + 1) * channels * area);
    const gradient = largestGradient(Uint8Array.from(pixels, toByte), channels, height, width, norm);
    const limits = norm === "L1" ? [low, high] : [low ** 2, high ** 2];
    const [weak = 0, strong = 0] = limits.map(Math.floor);
    const found = trackEdges(thin(gradient, height, width, weak, strong), height, width);
    for (let channel = 0; channel < 3; channel++) edges.set(found, (3 * row + channel) * area);
  }
  return new HostTensor([batch, 3, height, width], edges);
}

const toByte = (value: number): number => Math.min(255, Math.max(0, Math.round((value + 1) * 127.5)));

interface Gradient {
  readonly x: Int32Array;
  readonly y: Int32Array;
  /** |x| + |y|, or x^2 + y^2. */
  readonly size: Int32Array;
}

/** Sobel's gradient of each pixel, of the channel where it is largest. Pixels outside repeat the border. */
function largestGradient(
  bytes: Uint8Array,
  channels: number,
  height: number,
  width: number,
  norm: "L1" | "L2",
): Gradient {
  const area = height * width;
  const [x, y, size] = [new Int32Array(area), new Int32Array(area), new Int32Array(area).fill(-1)];
  for (let channel = 0; channel < channels; channel++) {
    const plane = bytes.subarray(channel * area, (channel + 1) * area);
    for (let i = 0; i < height; i++) {
      const above = Math.max(i - 1, 0) * width;
      const here = i * width;
      const below = Math.min(i + 1, height - 1) * width;
      for (let j = 0; j < width; j++) {
        const left = Math.max(j - 1, 0);
        const right = Math.min(j + 1, width - 1);
        const dx =
          plane[above + right]! -
          plane[above + left]! +
          2 * (plane[here + right]! - plane[here + left]!) +
          plane[below + right]! -
          plane[below + left]!;
        const dy =
          plane[below + left]! +
          2 * plane[below + j]! +
          plane[below + right]! -
          (plane[above + left]! + 2 * plane[above + j]! + plane[above + right]!);
        const magnitude = norm === "L1" ? Math.abs(dx) + Math.abs(dy) : dx * dx + dy * dy;
        if (magnitude > size[here + j]!) [x[here + j], y[here + j], size[here + j]] = [dx, dy, magnitude];
      }
    }
  }
  return { x, y, size };
}

/** Candidates and edges: pixels above a threshold that are larger than both neighbours across the edge. */
function thin(gradient: Gradient, height: number, width: number, low: number, high: number): Uint8Array {
  const kinds = new Uint8Array(height * width);
  const sizeAt = (i: number, j: number): number =>
    i < 0 || j < 0 || i >= height || j >= width ? 0 : gradient.size[i * width + j]!;
  for (let i = 0; i < height; i++) {
    for (let j = 0; j < width; j++) {
      const at = i * width + j;
      const size = gradient.size[at]!;
      if (size <= low) continue;
      const [x, y] = [gradient.x[at]!, gradient.y[at]!];
      const flat = Math.abs(x) * TANGENT;
      const steep = flat + Math.abs(x) * 65536; // tan(67.5 degrees) = tan(22.5 degrees) + 2
      const rise = Math.abs(y) * 32768;
      const turn = x < 0 !== y < 0 ? -1 : 1;
      // Of two equal neighbours along an axis the first one stays; along a diagonal neither does.
      const isLargest =
        rise < flat
          ? size > sizeAt(i, j - 1) && size >= sizeAt(i, j + 1)
          : rise > steep
            ? size > sizeAt(i - 1, j) && size >= sizeAt(i + 1, j)
            : size > sizeAt(i - 1, j - turn) && size > sizeAt(i + 1, j + turn);
      if (isLargest) kinds[at] = size > high ? EDGE : CANDIDATE;
    }
  }
  return kinds;
}

/** 1 at edges and at candidates that are connected with one. */
function trackEdges(kinds: Uint8Array, height: number, width: number): Float32Array {
  const open: number[] = [];
  kinds.forEach((kind, at) => {
    if (kind === EDGE) open.push(at);
  });
  for (let at = open.pop(); at !== undefined; at = open.pop()) {
    const [row, column] = [Math.floor(at / width), at % width];
    for (let i = Math.max(row - 1, 0); i <= Math.min(row + 1, height - 1); i++) {
      for (let j = Math.max(column - 1, 0); j <= Math.min(column + 1, width - 1); j++) {
        const neighbour = i * width + j;
        if (kinds[neighbour] !== CANDIDATE) continue;
        kinds[neighbour] = EDGE;
        open.push(neighbour);
      }
    }
  }
  return Float32Array.from(kinds, (kind) => (kind === EDGE ? 1 : 0));
}
