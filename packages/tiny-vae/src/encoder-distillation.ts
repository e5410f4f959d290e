import { scope, type Program } from "@sdxs/tensor";
import { mse } from "@sdxs/losses";
import { toDiffusionLatents } from "./autoencoder-kl.js";
import { encodeTiny, type AutoencoderTinyConfig } from "./autoencoder-tiny.js";

/**
 * Distills a tiny encoder from a large one's latents by their mean squared error, as TAESD's encoder was
 * (https://github.com/madebyollin/taesd). Image-to-image in real time needs one.
 *
 * Latents are those that the diffusion model works on: of an `AutoencoderKL`, `toDiffusionLatents` of the posterior's mean;
 * samples of it would teach the same with more noise. The tiny encoder learns to give them divided by its own
 * `scaling_factor`, as diffusers expects; that is 1 in TAESD and all presets.
 *
 * Parameters: the encoder's, as `tinyEncoderParameters` names them. Inputs: `image` [batch, in_channels, h f, w f] in [-1, 1]
 * and `latents` [batch, latent_channels, h, w], the large encoder's for these images.
 * Outputs: `loss`, the batch's mean; `perSample` [batch]; `encoded`, shaped and scaled as `latents`.
 *
 * Throws `ShapeError` for latents of another size.
 *
 * @example
 * const program = tinyEncoderDistillation(autoencoderTinyPresets.taesd);
 */
export function tinyEncoderDistillation(
  config: AutoencoderTinyConfig,
): Program<"image" | "latents", "loss" | "perSample" | "encoded"> {
  return (ops, params, { image, latents }) => {
    const encoded = toDiffusionLatents(ops, config, encodeTiny(ops, scope(ops, params), config, image));
    const perSample = mse(ops, encoded, latents);
    return { loss: ops.mean(perSample), perSample, encoded };
  };
}
