import { InvalidArgumentError, scope, type Program } from "@sdxs/tensor";
import { gaussianSsim, l1, mse, vaeDistillationLoss, type DownsamplingFilter } from "@sdxs/losses";
import { decodeTiny, type AutoencoderTinyConfig } from "./autoencoder-tiny.js";

export interface TinyDecoderDistillationOptions {
  /** Factor of Equation 5's downsampling. Default 8, the paper's. */
  readonly downsample?: number;
  /** How both images are made smaller. Default "area"; the paper names none. */
  readonly filter?: DownsamplingFilter;
  /**
   * Weight of each term. Default: Equation 5's L1 alone. Without a GAN that leaves the texture free, so a training
   * without one needs some of the others, which compare at full resolution.
   */
  readonly weights?: {
    /** Of Equation 5's L1 between downsampled images. Default 1. */
    readonly downsampled?: number;
    /** Default 0. */
    readonly l1?: number;
    /** Default 0. */
    readonly mse?: number;
    /** Of 1 - SSIM under a Gaussian window; images of at least 11 x 11 pixels. Default 0. */
    readonly ssim?: number;
  };
}

/** Images lie in [-1, 1]. */
const IMAGE_RANGE = 2;

/**
 * Distills a tiny decoder G from a large one's images: Equation 5 of the SDXS paper (https://arxiv.org/abs/2403.16627)
 * without its GAN term.
 *
 * Parameters: the decoder's, as `tinyDecoderParameters` names them. Inputs: `latents` [batch, latent_channels, h, w] and
 * `image` [batch, out_channels, h f, w f], the large decoder's for these latents, in [-1, 1].
 * Outputs: `loss`, the batch's mean; `perSample` [batch]; `decoded`, shaped as `image`.
 *
 * Throws `InvalidArgumentError` where every weight is 0, `ShapeError` for images of another size or not divisible by `downsample`.
 *
 * @example
 * const program = tinyDecoderDistillation(config, { weights: { downsampled: 1, l1: 1, ssim: 0.1 } });
 */
export function tinyDecoderDistillation(
  config: AutoencoderTinyConfig,
  options: TinyDecoderDistillationOptions = {},
): Program<"latents" | "image", "loss" | "perSample" | "decoded"> {
  const { downsample = 8, filter = "area", weights = {} } = options;
  const { downsampled = 1, l1: l1Weight = 0, mse: mseWeight = 0, ssim = 0 } = weights;
  if (downsampled === 0 && l1Weight === 0 && mseWeight === 0 && ssim === 0) {
    throw new InvalidArgumentError("tinyDecoderDistillation: every weight is 0. Give at least one term a weight.");
  }
  return (ops, params, { latents, image }) => {
    const decoded = decodeTiny(ops, scope(ops, params), config, latents);
    const terms = [
      { weight: downsampled, loss: () => vaeDistillationLoss(ops, decoded, image, { downsample, filter }) },
      { weight: l1Weight, loss: () => l1(ops, decoded, image) },
      { weight: mseWeight, loss: () => mse(ops, decoded, image) },
      { weight: ssim, loss: () => ops.sub(1, gaussianSsim(ops, decoded, image, { dataRange: IMAGE_RANGE })) },
    ];
    const perSample = terms
      .filter(({ weight }) => weight !== 0)
      .map(({ weight, loss }) => ops.mul(weight, loss()))
      .reduce((sum, term) => ops.add(sum, term));
    return { loss: ops.mean(perSample), perSample, decoded };
  };
}
