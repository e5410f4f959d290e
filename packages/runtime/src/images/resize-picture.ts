import { HostTensor, InvalidArgumentError, ShapeError } from "@sdxs/tensor";

export interface ResizeOptions {
  /** "stretch" changes proportions where they differ; "crop" keeps them and cuts off the sides. Default "stretch". */
  readonly mode?: "stretch" | "crop";
  /** The values of black and white. Default [-1, 1], those of pictures; conditions of ControlNets have [0, 1]. */
  readonly range?: readonly [number, number];
}

/**
 * Pictures of another size, by Lanczos's filter, as Pillow's `resize((width, height), LANCZOS)` makes them, to the byte. This
 * is how diffusers brings pictures to a pipeline's size: "stretch" is its resize_mode "default", "crop" its "crop".
 *
 * @param images [images, channels, height, width]; where the size changes, values are rounded to 256 steps, as files have them
 * @returns [images, channels, size.height, size.width]
 *
 * Throws `ShapeError` for other shapes, `InvalidArgumentError` for sizes that are no whole numbers above 0.
 *
 * @example
 * const image = resizePicture(await fromPng(file), { width: 512, height: 512 }, { mode: "crop" });
 */
export function resizePicture(
  images: HostTensor,
  { width, height }: { readonly width: number; readonly height: number },
  { mode = "stretch", range: [black, white] = [-1, 1] }: ResizeOptions = {},
): HostTensor {
  const [count = 0, channels = 0, fromHeight = 0, fromWidth = 0] = images.shape;
  if (images.shape.length !== 4 || fromHeight === 0 || fromWidth === 0) {
    throw new ShapeError(
      `resizePicture: expected images [images, channels, height, width], got [${images.shape.join(", ")}].`,
    );
  }
  for (const [name, value] of Object.entries({ width, height })) {
    if (!Number.isInteger(value) || value < 1) {
      throw new InvalidArgumentError(`resizePicture: ${name} must be a whole number of at least 1, got ${value}.`);
    }
  }
  if (width === fromWidth && height === fromHeight) return images;

  // As diffusers rounds it: the whole picture at the scale at which it covers the size.
  const isWider = fromWidth * height >= fromHeight * width;
  const covers = mode === "crop";
  const wide = covers && isWider ? Math.floor((fromWidth * height) / fromHeight) : width;
  const high = covers && !isWider ? Math.floor((fromHeight * width) / fromWidth) : height;
  const left = Math.floor(wide / 2) - Math.floor(width / 2);
  const top = Math.floor(high / 2) - Math.floor(height / 2);

  const bytes = new Uint8ClampedArray(fromHeight * fromWidth); // rounded and clipped
  const across = filterWeights(fromWidth, wide);
  const down = filterWeights(fromHeight, high);
  const resized = HostTensor.filled([count, channels, height, width], 0);
  const area = fromHeight * fromWidth;
  for (let plane = 0; plane < count * channels; plane++) {
    const values = images.data.subarray(plane * area, (plane + 1) * area);
    for (let at = 0; at < area; at++) bytes[at] = ((values[at]! - black) / (white - black)) * 255;
    const narrowed = wide === fromWidth ? bytes : filterRows(bytes, fromHeight, fromWidth, across);
    const small = high === fromHeight ? narrowed : filterColumns(narrowed, wide, down);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const byte = small[(y + top) * wide + x + left]!;
        resized.data[(plane * height + y) * width + x] = black + (byte / 255) * (white - black);
      }
    }
  }
  return resized;
}

/** What one new pixel is made of: `weights` of the old ones from `first` on, in units of 2^-22, as Pillow has them. */
interface Taps {
  readonly first: number;
  readonly weights: Int32Array;
}

const ONE = 2 ** 22;
/** Lanczos's window, in old pixels, or in new ones where these are larger. */
const REACH = 3;

const sinc = (x: number): number => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));
const lanczos = (x: number): number => (x >= -REACH && x < REACH ? sinc(x) * sinc(x / REACH) : 0);

function filterWeights(from: number, to: number): Taps[] {
  const scale = from / to;
  const stretch = Math.max(scale, 1);
  return Array.from({ length: to }, (_, pixel) => {
    const center = (pixel + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - REACH * stretch + 0.5));
    const end = Math.min(from, Math.trunc(center + REACH * stretch + 0.5));
    const values = Array.from({ length: end - first }, (_, i) => lanczos((first + i - center + 0.5) / stretch));
    const total = values.reduce((sum, value) => sum + value, 0);
    const rounded = values.map((value) => Math.sign(value) * Math.floor(Math.abs(value / total) * ONE + 0.5));
    return { first, weights: Int32Array.from(rounded) };
  });
}

function filterRows(bytes: Uint8ClampedArray, height: number, width: number, taps: readonly Taps[]): Uint8ClampedArray {
  const result = new Uint8ClampedArray(height * taps.length);
  for (let y = 0; y < height; y++) {
    for (const [x, { first, weights }] of taps.entries()) {
      let sum = ONE / 2;
      for (let i = 0; i < weights.length; i++) sum += weights[i]! * bytes[y * width + first + i]!;
      result[y * taps.length + x] = Math.floor(sum / ONE);
    }
  }
  return result;
}

function filterColumns(bytes: Uint8ClampedArray, width: number, taps: readonly Taps[]): Uint8ClampedArray {
  const result = new Uint8ClampedArray(taps.length * width);
  const sums = new Float64Array(width);
  for (const [y, { first, weights }] of taps.entries()) {
    sums.fill(ONE / 2);
    weights.forEach((weight, i) => {
      const row = (first + i) * width;
      for (let x = 0; x < width; x++) sums[x]! += weight * bytes[row + x]!;
    });
    for (let x = 0; x < width; x++) result[y * width + x] = Math.floor(sums[x]! / ONE);
  }
  return result;
}
