import type { Ops } from "@sdxs/tensor";
import { downsample, type DownsamplingFilter } from "./downsample.js";
import { l1 } from "./l1.js";
import { checkPerSample, checkSameShape } from "./per-sample.js";

export interface VaeDistillationOptions<T> {
  /** Factor by which both images are made smaller; height and width must be divisible by it. Default 8, Equation 5's. */
  readonly downsample?: number;
  /** How they are made smaller. Default "area"; the paper names none. */
  readonly filter?: DownsamplingFilter;
  /** lambda_GAN L_GAN of Equation 5, already weighted, [batch]. Default: none. */
  readonly adversarial?: T;
}

/**
 * VAE distillation, Equation 5 of the SDXS paper (https://arxiv.org/abs/2403.16627):
 *
 *     L_VD = || down_8(G(z)) - down_8(image) ||_1 + lambda_GAN L_GAN
 *
 * The L1 term fixes colours and shapes only and leaves the texture to the adversarial one. The norm is a mean over the
 * remaining pixels and channels.
 *
 * @param decoded G(z), images [batch, channels, height, width]
 * @param target the large decoder's images, same shape
 * @returns [batch]
 *
 * Throws `ShapeError` where the shapes differ or cannot be downsampled, `InvalidArgumentError` for a factor that is not
 * a whole number of at least 1.
 *
 * @example
 * const loss = ops.mean(vaeDistillationLoss(ops, decoded, image));
 */
export function vaeDistillationLoss<T>(ops: Ops<T>, decoded: T, target: T, options: VaeDistillationOptions<T> = {}): T {
  const { downsample: factor = 8, filter, adversarial } = options;
  checkSameShape(ops, "vaeDistillationLoss", decoded, target, 4);
  const distance = l1(ops, downsample(ops, decoded, factor, filter), downsample(ops, target, factor, filter));
  if (adversarial === undefined) return distance;
  checkPerSample(ops, "vaeDistillationLoss", "adversarial", adversarial, ops.shape(decoded)[0] ?? 1);
  return ops.add(distance, adversarial);
}
