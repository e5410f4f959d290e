/** The programs of a latent diffusion model that the recipes train: what they predict, how they learn, and each part alone. */
import {
  addNoise,
  gatherNoiseLevels,
  noiseSchedule,
  predictionTarget,
  type PredictionType,
  type SchedulerConfig,
} from "@sdxs/diffusion";
import { denoisingLoss } from "@sdxs/losses";
import { textEncoder, type TextEncoderConfig } from "@sdxs/runtime";
import { scope, type Ops, type Program, type Scope } from "@sdxs/tensor";
import { unet, type UNetConfig } from "@sdxs/tiny-unet";
import { decodeKl, encodeKl, type AutoencoderKlConfig } from "@sdxs/tiny-vae";

/** Stable Diffusion's noise: scaled linear betas from 0.00085 to 0.012 in 1000 steps. */
export const schedule = noiseSchedule();

/**
 * What the U-Nets predict. The velocity's conversion to x0 hardly amplifies errors at the last timestep (epsilon's
 * does by 14.6), so that a teacher of an hour's training is a good beginning for a one-step student.
 */
export const predictionType: PredictionType = "v_prediction";

/** The teachers' sampler in diffusers' words. */
export const schedulerConfig: SchedulerConfig = {
  _class_name: "DPMSolverMultistepScheduler",
  num_train_timesteps: 1000,
  beta_start: 0.00085,
  beta_end: 0.012,
  beta_schedule: "scaled_linear",
  prediction_type: predictionType,
  timestep_spacing: "trailing",
};

/** Images to the diffusion model's latents: the posterior's mean, scaled. */
export function imageEncoder(config: AutoencoderKlConfig): Program<"images", "latents"> {
  return (ops, params, { images }) => ({
    latents: ops.mul(encodeKl(ops, scope(ops, params), config, images).mean, config.scaling_factor),
  });
}

/** The diffusion model's latents to images, by the large decoder. */
export function imageDecoder(config: AutoencoderKlConfig): Program<"latents", "images"> {
  return (ops, params, { latents }) => ({
    images: decodeKl(ops, scope(ops, params), config, ops.mul(latents, 1 / config.scaling_factor)),
  });
}

/** Token ids to the text embeddings that the U-Nets attend to. */
export function promptEncoder(config: TextEncoderConfig): Program<"ids", "context"> {
  return (ops, params, { ids }) => ({ context: textEncoder(ops, scope(ops, params), config, ids).lastHiddenState });
}

/** A U-Net's output for noisy latents. */
export function noisePredictor(config: UNetConfig): Program<"sample" | "timestep" | "context", "output"> {
  return (ops, params, { sample, timestep, context }) => ({
    output: unet(ops, scope(ops, params), config, { sample, timestep, encoderHiddenStates: context }).sample,
  });
}

/** Clean latents and what makes them noisy: `noise` of their shape, `timestep` [batch]. */
export type NoisedLatents<T> = Readonly<Record<"latents" | "noise" | "timestep", T>>;

/** Equation 1, one value: how well `predict` tells from the noisy sample what its network puts out. */
export function latentDenoisingLoss<T>(
  ops: Ops<T>,
  { latents, noise, timestep }: NoisedLatents<T>,
  predict: (sample: T) => T,
): T {
  const level = gatherNoiseLevels(ops, schedule, timestep);
  const output = predict(addNoise(ops, latents, noise, level));
  return ops.mean(denoisingLoss(ops, output, predictionTarget(ops, predictionType, latents, noise, level)));
}

/** Equation 1 of a U-Net, one value; `context` are its prompts' text embeddings. */
export function unetDenoisingLoss<T>(
  ops: Ops<T>,
  p: Scope<T>,
  config: UNetConfig,
  { context, ...noised }: NoisedLatents<T> & { readonly context: T },
): T {
  const { timestep } = noised;
  return latentDenoisingLoss(
    ops,
    noised,
    (sample) => unet(ops, p, config, { sample, timestep, encoderHiddenStates: context }).sample,
  );
}

/** Training of the teacher with its text encoder, Equation 1: parameters under "unet." and "text_encoder.". */
export function teacherTraining(
  config: UNetConfig,
  textConfig: TextEncoderConfig,
): Program<"latents" | "noise" | "timestep" | "ids", "loss"> {
  return (ops, params, { ids, ...noised }) => {
    const { lastHiddenState: context } = textEncoder(ops, scope(ops, params, "text_encoder"), textConfig, ids);
    return { loss: unetDenoisingLoss(ops, scope(ops, params, "unet"), config, { ...noised, context }) };
  };
}
