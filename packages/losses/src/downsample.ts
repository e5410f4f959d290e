import { InvalidArgumentError, ShapeError, layoutHint, tensorShape, unknownName, type Ops } from "@sdxs/tensor";
import { cubic, resample, triangle } from "./resampling.js";

/**
 * How images are made smaller, in PyTorch's words: "area" averages all pixels that a new one covers; "bilinear" looks at
 * the four around its centre alone; antialiased, bilinear and bicubic weigh those around it by a triangle or a cubic.
 */
export type DownsamplingFilter = "area" | "bilinear" | "bilinear-antialias" | "bicubic-antialias";

/**
 * Images made smaller by a whole factor, as by PyTorch's `interpolate` with that `mode` and `antialias`.
 *
 * @param images [batch, channels, height, width], any range, height and width divisible by `factor`
 * @param factor a whole number of at least 1
 * @param filter default "area"
 * @returns [batch, channels, height / factor, width / factor]
 *
 * Throws `ShapeError` where the images cannot be divided, `InvalidArgumentError` for a factor that is no such number.
 *
 * @example
 * const small = downsample(ops, images, 8, "bicubic-antialias");
 */
export function downsample<T>(ops: Ops<T>, images: T, factor: number, filter: DownsamplingFilter = "area"): T {
  const shape = tensorShape(ops, "downsample", "images", images);
  const [, , height = 0, width = 0] = shape;
  if (!Number.isInteger(factor) || factor < 1) {
    throw new InvalidArgumentError(`downsample: the factor must be a whole number of at least 1, got ${factor}.`);
  }
  if (shape.length !== 4 || height % factor !== 0 || width % factor !== 0) {
    throw new ShapeError(
      `downsample: images must be [batch, channels, height, width] with sizes divisible by ${factor}, ` +
        `got [${shape.join(", ")}]. Crop them or choose another factor.` +
        layoutHint(shape),
    );
  }
  if (factor === 1) return images;
  const size = [height / factor, width / factor] as const;
  switch (filter) {
    case "area":
      return ops.avgPool2d(images, factor);
    case "bilinear":
      return resample(ops, images, size, triangle, false);
    case "bilinear-antialias":
      return resample(ops, images, size, triangle, true);
    case "bicubic-antialias":
      return resample(ops, images, size, cubic(-0.5), true); // PyTorch's a where it antialiases, as Pillow's
  }
  throw unknownName("downsample", "filter", filter, ["area", "bilinear", "bilinear-antialias", "bicubic-antialias"]);
}
