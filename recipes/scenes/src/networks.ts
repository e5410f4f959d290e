import { gaussianSsim, l1, mse } from "@sdxs/losses";
import { scope, type Ops, type Program, type TensorSpec } from "@sdxs/tensor";
import { decodeKl, encodeKl, posteriorKl, samplePosterior, type AutoencoderKlConfig } from "@sdxs/tiny-vae";
import { sceneSize } from "./canvas.js";
import { blockSize } from "./linear-codec.js";
import { latentChannels, latentSize } from "./models.js";

/** Images [batch, 3, 128, 128]. */
export const imageSpec = (batch: number): TensorSpec => ({ shape: [batch, 3, sceneSize, sceneSize] });
/** Latents, or noise of their shape [batch, 16, 16, 16]. */
export const latentSpec = (batch: number): TensorSpec => ({ shape: [batch, latentChannels, latentSize, latentSize] });

/**
 * Training of the autoencoder by what its reconstructions lack: L1, 4 MSE, which weighs the large errors at edges as much as
 * the small ones elsewhere, and a quarter of 1 - SSIM, which sharpens; and a little Kullback-Leibler divergence that keeps the
 * latents near a normal distribution. The weights are chosen.
 */
export function autoencoderTraining(
  config: AutoencoderKlConfig,
): Program<"images" | "noise", "loss" | "l1" | "mse" | "ssim" | "kl"> {
  const klWeight = 1e-6; // of its sum over a latent, as in latent diffusion (arXiv:2112.10752, appendix G)
  return (ops, params, { images, noise }) => {
    const p = scope(ops, params);
    const posterior = encodeKl(ops, p, config, images);
    const decoded = decodeKl(ops, p, config, samplePosterior(ops, posterior, noise));
    const { loss, ...parts } = reconstructionLoss(ops, decoded, images);
    const kl = ops.mean(posteriorKl(ops, posterior));
    return { loss: ops.add(loss, ops.mul(kl, klWeight)), ...parts, kl };
  };
}

/**
 * Training of the decoder alone on the latents of a linear codec, under "linear.weight" and "linear.bias": they tell most of
 * a picture from the first step on, so that the decoder gets in minutes where both networks together need an hour.
 */
export function decoderTraining(
  config: AutoencoderKlConfig,
): Program<"images" | "noise", "loss" | "l1" | "mse" | "ssim"> {
  const spread = 0.05; // as wide as the encoder's posterior begins
  return (ops, params, { images, noise }) => {
    const { latents } = linearLatents(ops, params, { images });
    const decoded = decodeKl(ops, scope(ops, params), config, ops.add(latents, ops.mul(noise, spread)));
    return reconstructionLoss(ops, decoded, images);
  };
}

/**
 * Training of the decoder alone on the finished encoder's latents: its parameters stay under "frozen.", so that what was
 * learned of these latents stays true.
 */
export function finishingTraining(
  config: AutoencoderKlConfig,
): Program<"images" | "noise", "loss" | "l1" | "mse" | "ssim"> {
  return (ops, params, { images, noise }) => {
    const posterior = encodeKl(ops, scope(ops, params, "frozen"), config, images);
    const decoded = decodeKl(ops, scope(ops, params), config, samplePosterior(ops, posterior, noise));
    return reconstructionLoss(ops, decoded, images);
  };
}

/** Images to the latents of the linear codec under "linear.weight" and "linear.bias". */
export const linearLatents: Program<"images", "latents"> = (ops, params, { images }) => ({
  latents: ops.conv2d(images, params["linear.weight"]!, params["linear.bias"], { stride: blockSize }),
});

function reconstructionLoss<T>(ops: Ops<T>, decoded: T, images: T): Record<"loss" | "l1" | "mse" | "ssim", T> {
  const absolute = ops.mean(l1(ops, decoded, images));
  const squared = ops.mean(mse(ops, decoded, images));
  const ssim = ops.mean(gaussianSsim(ops, decoded, images, { dataRange: 2 }));
  const terms = [absolute, ops.mul(squared, 4), ops.mul(ops.sub(1, ssim), 0.25)];
  return { loss: terms.reduce((sum, term) => ops.add(sum, term)), l1: absolute, mse: squared, ssim };
}
