import { InvalidArgumentError, ShapeError, type Ops } from "@sdxs/tensor";
import { l1 } from "./l1.js";
import { checkPerSample, checkSameShape } from "./per-sample.js";

export interface VaeDistillationOptions<T> {
  /** Factor by which both images are averaged down; height and width must be divisible by it. Default 8, Equation 5's. */
  readonly downsample?: number;
  /** lambda_GAN L_GAN of Equation 5, already weighted, [batch]. Default: none. */
  readonly adversarial?: T;
}

/**
 * VAE distillation, Equation 5 of the SDXS paper (https://arxiv.org/abs/2403.16627):
 *
 *     L_VD = || down_8(G(z)) - down_8(image) ||_1 + lambda_GAN L_GAN
 *
 * The L1 term fixes colours and shapes only and leaves the texture to the adversarial one. Downsampling is by area;
 * the norm is a mean over the remaining pixels and channels.
 *
 * @param decoded G(z), images [batch, channels, height, width]
 * @param target the large decoder's images, same shape
 * @returns [batch]
 *
 * Throws `ShapeError` where the shapes differ or cannot be downsampled.
 *
 * @example
 * const loss = ops.mean(vaeDistillationLoss(ops, decoded, image));
 */
export function vaeDistillationLoss<T>(ops: Ops<T>, decoded: T, target: T, options: VaeDistillationOptions<T> = {}): T {
  const { downsample = 8, adversarial } = options;
  checkSameShape(ops, "vaeDistillationLoss", decoded, target, 4);
  const [batch = 1, , height = 0, width = 0] = ops.shape(decoded);
  if (!Number.isInteger(downsample) || downsample < 1) {
    throw new InvalidArgumentError(
      `vaeDistillationLoss: downsample must be a whole number of at least 1, got ${downsample}.`,
    );
  }
  if (height % downsample !== 0 || width % downsample !== 0) {
    throw new ShapeError(
      `vaeDistillationLoss: height and width must be divisible by downsample ${downsample}, got ${height} x ${width}. ` +
        `Crop the images or choose another factor.`,
    );
  }
  const distance =
    downsample === 1
      ? l1(ops, decoded, target)
      : l1(ops, ops.avgPool2d(decoded, downsample), ops.avgPool2d(target, downsample));
  if (adversarial === undefined) return distance;
  checkPerSample(ops, "vaeDistillationLoss", "adversarial", adversarial, batch);
  return ops.add(distance, adversarial);
}
