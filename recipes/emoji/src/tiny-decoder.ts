import { constantSchedule, initialize, random, type Backend, type HostParams, type HostTensor } from "@sdxs/tensor";
import {
  adversarialDecoderDistillation,
  discriminatorParameters,
  patchDiscriminator,
  tinyDecoderDistillation,
  tinyDecoderParameters,
  type AutoencoderTinyConfig,
  type Discriminator,
  type TinyDecoderDistillationOptions,
} from "@sdxs/tiny-vae";
import { alternatingTask, gradientTask, takeRows, type TrainOptions } from "@sdxs/training";
import { firstRows, mapBatches, rowCount } from "../../rows.js";
import { tinyDecoderConfig } from "./models.js";
import { imageDecoder } from "../../diffusion-model.js";
import { imageSpec, latentSpec } from "./networks.js";
import { annealed, runTask, type RunTaskOptions } from "../../run-task.js";
import type { StageOptions } from "./stage.js";

export interface DecoderBudget {
  /** Updates of the tiny decoder by distances between images alone. */
  readonly decoderSteps: number;
  /** Updates with the GAN, after these. */
  readonly ganSteps: number;
}

/** One training of a tiny decoder. */
export interface DecoderTraining {
  /** Of its folder and its log; with ", GAN" behind it that of the second part. */
  readonly name: string;
  readonly config: AutoencoderTinyConfig;
  readonly budget: DecoderBudget;
  /** Pictures of a step. Default `decoderBatch`. */
  readonly batch?: number;
  /** The highest of the first part. */
  readonly learningRate: number;
  /** Of the averaged weights. Default 0.99. */
  readonly emaDecay?: number;
  /** Of the distances between images. */
  readonly weights: NonNullable<TinyDecoderDistillationOptions["weights"]>;
  /** The diffusion model's, [pictures, 4, 16, 16]. */
  readonly latents: HostTensor;
  /** What they are to become, [pictures, 3, 64, 64]. */
  readonly images: HostTensor;
  /** What the random choice of pictures is seeded with besides the seed. */
  readonly purpose: string;
  /** What is looked at on the way, by the decoder's weights. */
  readonly validation?: (
    name: string,
    steps: number,
    weights: () => Promise<HostParams>,
  ) => Pick<TrainOptions, "validate">;
}

/**
 * Pictures of a step in short trainings. Chosen: of the same 2,400 pictures, MSE in steps of 8, 4 and 2 gave held-out images of
 * 20.3, 23.7 and 25.1 dB. With more of them larger steps win: `npm run recipe:emoji -- tiny-vae`.
 */
const decoderBatch = 2;
export const decoderOptimizer = { weightDecay: 0, clipNorm: 1, emaDecay: 0.99 };
export const decoderFinalRate = 1e-4;

/** Chosen: Equation 5's L1 on small images keeps the colours, the terms at full size the edges that its GAN sharpens. */
export const decoderWeights = { downsampled: 0.5, l1: 1, ssim: 0.25 };

/**
 * Chosen, with 1,000 steps each: the teacher's latents came to a Fréchet distance of 66 without GAN, of 56 at a lambda_GAN of
 * 0.1, and of 54 at 0.3; after 3,000 steps at 0.3, of 49. The large decoder's pictures have 44.
 */
const lambdaGan = 0.3;
/** Judges patches of 38 x 38 pixels. Chosen: a quarter of the default's channels, as the decoder is small. */
const discriminator: Discriminator = (ops, p, [images]) =>
  patchDiscriminator(ops, p, images!, { channels: [16, 32, 64] });
/** Chosen: slow, as it outruns a decoder whose images are still coarse. */
const discriminatorRate = constantSchedule(1e-4);

/** Latents that the large decoder decodes at once. */
const decodedBatch = 8;
/** Pictures that the student's decoder learns from: more take longer to decode than they help. */
const pictures = 1024;

/**
 * The student's decoder from the large one's pictures of the teacher's latents.
 *
 * @param samples the teacher's latents [pictures, 4, 16, 16]
 */
export async function distilDecoder<D>(
  options: StageOptions<D> & { readonly budget: DecoderBudget },
  samples: HostTensor,
): Promise<HostParams> {
  const { backend, teacher, budget, signal, onProgress } = options;
  const latents = firstRows(samples, Math.min(rowCount(samples), pictures));
  const { config, params } = teacher.autoencoder;
  const { images } = await mapBatches(backend, imageDecoder(config), params, { latents }, decodedBatch, {
    ...(signal && { signal }),
    onBatch: (done) => onProgress?.("decoder's pictures", { step: done, steps: rowCount(latents), metrics: {} }),
  });
  return trainTinyDecoder(options, {
    name: "tiny decoder",
    config: tinyDecoderConfig,
    budget,
    learningRate: 4e-3,
    weights: decoderWeights,
    latents,
    images,
    purpose: "tiny decoder",
  });
}

/** A tiny decoder by Equation 5, first by distances between images alone, then with the GAN; its averaged weights. */
export async function trainTinyDecoder<D>(
  options: RunTaskOptions & { readonly backend: Backend<D>; readonly seed: number },
  training: DecoderTraining,
): Promise<HostParams> {
  const { backend, seed } = options;
  const { name, config, budget, weights, latents, images, purpose, validation = () => ({}) } = training;
  const { batch = decoderBatch, emaDecay = decoderOptimizer.emaDecay } = training;
  const learner = (part: string) => ({
    inputs: { latents: latentSpec(batch), image: imageSpec(batch) },
    batch(step: number) {
      const rows = random(seed, part, step).integers([batch], 0, rowCount(latents)).data;
      return { latents: takeRows(latents, rows), image: takeRows(images, rows) };
    },
    batchSize: batch,
    optimizer: { ...decoderOptimizer, emaDecay },
  });

  const { decoderSteps, ganSteps } = budget;
  const byDistances = await gradientTask({
    ...learner(purpose),
    name,
    backend,
    steps: decoderSteps,
    program: tinyDecoderDistillation(config, { weights }),
    params: initialize(tinyDecoderParameters(config), seed),
    learningRate: annealed(training.learningRate, decoderSteps, decoderFinalRate),
  });
  const coarse = () => byDistances.weights({ averaged: true });
  const params = await runTask(options, byDistances, coarse, validation(name, decoderSteps, coarse));
  if (ganSteps === 0) return params;

  const ganName = `${name}, GAN`;
  const players = adversarialDecoderDistillation(config, { weights, lambdaGan, discriminator });
  const shared = learner(`${purpose}, GAN`);
  const adversarial = await alternatingTask({
    name: ganName,
    backend,
    steps: ganSteps,
    learners: {
      discriminator: {
        ...shared,
        program: players.discriminator,
        params: initialize(discriminatorParameters(imageSpec(1).shape, { discriminator }), seed),
        learningRate: discriminatorRate,
      },
      decoder: {
        ...shared,
        program: players.decoder,
        params,
        learningRate: annealed(1e-3, ganSteps, decoderFinalRate),
      },
    },
  });
  const sharp = () => adversarial.weights("decoder", { averaged: true });
  return runTask(options, adversarial, sharp, validation(ganName, ganSteps, sharp));
}
