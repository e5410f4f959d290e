import { gaussianSsim, l1 } from "@sdxs/losses";
import { scope, type Ops, type Program, type TensorSpec } from "@sdxs/tensor";
import {
  decodeKl,
  decodeTiny,
  encodeKl,
  encodeTiny,
  posteriorKl,
  samplePosterior,
  toDiffusionLatents,
  type AutoencoderKlConfig,
  type AutoencoderTinyConfig,
} from "@sdxs/tiny-vae";
import { imageDecoder } from "../../diffusion-model.js";
import { imageSize, latentSize, promptTokens } from "./models.js";

/** Images [batch, 3, 64, 64]. */
export const imageSpec = (batch: number): TensorSpec => ({ shape: [batch, 3, imageSize, imageSize] });
/** Latents, or noise of their shape [batch, 4, 16, 16]. */
export const latentSpec = (batch: number): TensorSpec => ({ shape: [batch, 4, latentSize, latentSize] });
/** Token ids [batch, tokens]. */
export const promptSpec = (batch: number): TensorSpec => ({ shape: [batch, promptTokens], dtype: "int32" });

/**
 * Training of the autoencoder: L1 and SSIM between an image and its reconstruction, and a little Kullback-Leibler
 * divergence that keeps the latents near a normal distribution.
 */
export function autoencoderTraining(config: AutoencoderKlConfig): Program<"images" | "noise", "loss" | "l1" | "kl"> {
  const klWeight = 1e-6; // of its sum over a latent, as in latent diffusion (arXiv:2112.10752, appendix G)
  return (ops, params, { images, noise }) => {
    const p = scope(ops, params);
    const posterior = encodeKl(ops, p, config, images);
    const decoded = decodeKl(ops, p, config, samplePosterior(ops, posterior, noise));
    const { loss, difference } = reconstructionLoss(ops, decoded, images);
    const kl = ops.mean(posteriorKl(ops, posterior));
    return { loss: ops.add(loss, ops.mul(kl, klWeight)), l1: difference, kl };
  };
}

/** Training of the large decoder alone on the encoder's latents, under the same two terms. */
export function decoderTraining(config: AutoencoderKlConfig): Program<"latents" | "images", "loss" | "l1"> {
  const decode = imageDecoder(config);
  return (ops, params, { latents, images }) => {
    const { loss, difference } = reconstructionLoss(ops, decode(ops, params, { latents }).images, images);
    return { loss, l1: difference };
  };
}

/** L1 and a quarter of 1 - SSIM. Chosen: SSIM sharpens edges that L1 alone leaves soft. */
function reconstructionLoss<T>(ops: Ops<T>, decoded: T, images: T): { readonly loss: T; readonly difference: T } {
  const difference = ops.mean(l1(ops, decoded, images));
  const dissimilarity = ops.sub(1, ops.mean(gaussianSsim(ops, decoded, images, { dataRange: 2 })));
  return { loss: ops.add(difference, ops.mul(dissimilarity, 0.25)), difference };
}

/** The diffusion model's latents to images, by the tiny decoder. */
export function tinyImageDecoder(config: AutoencoderTinyConfig): Program<"latents", "images"> {
  return (ops, params, { latents }) => ({ images: decodeTiny(ops, scope(ops, params), config, latents) });
}

/** Images to the diffusion model's latents, by the tiny encoder. */
export function tinyImageEncoder(config: AutoencoderTinyConfig): Program<"images", "latents"> {
  return (ops, params, { images }) => ({
    latents: toDiffusionLatents(ops, config, encodeTiny(ops, scope(ops, params), config, images)),
  });
}

/**
 * Cross-entropy, one value.
 *
 * @param logits [batch, classes]
 * @param classes of the same shape, 1 at each row's class and 0 elsewhere
 */
export function crossEntropy<T>(ops: Ops<T>, logits: T, classes: T): T {
  const shifted = ops.sub(logits, ops.stopGradient(ops.max(logits, { axes: [1], keepDims: true })));
  const logSum = ops.log(ops.sum(ops.exp(shifted), { axes: [1] }));
  return ops.mean(ops.sub(logSum, ops.sum(ops.mul(shifted, classes), { axes: [1] })));
}
