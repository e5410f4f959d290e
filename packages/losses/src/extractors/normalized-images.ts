import { ShapeError, type Ops } from "@sdxs/tensor";

/** Mean and standard deviation of ImageNet's red, green and blue in [0, 1], as torchvision's weights expect. */
const MEAN = [0.485, 0.456, 0.406];
const STANDARD_DEVIATION = [0.229, 0.224, 0.225];

/**
 * Images in [-1, 1] as networks trained on ImageNet take them: (image / 2 + 1 / 2 - mean) / standard deviation per channel.
 *
 * @param images [batch, 3, height, width], red first
 * @returns same shape
 *
 * Throws `ShapeError` for images of another number of channels.
 */
export function normalizedImages<T>(ops: Ops<T>, images: T): T {
  const shape = ops.shape(images);
  if (shape.length !== 4 || shape[1] !== 3) {
    throw new ShapeError(
      `normalizedImages: images must be [batch, 3, height, width], got [${shape.join(", ")}]. ` +
        `Repeat a single channel three times.`,
    );
  }
  const scale = Float32Array.from(STANDARD_DEVIATION, (deviation) => 0.5 / deviation);
  const shift = Float32Array.from(MEAN, (mean, channel) => (0.5 - mean) / STANDARD_DEVIATION[channel]!);
  const perChannel = [1, 3, 1, 1];
  return ops.add(ops.mul(images, ops.constant(scale, perChannel)), ops.constant(shift, perChannel));
}
