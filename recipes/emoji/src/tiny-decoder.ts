import { constantSchedule, initialize, random, type HostParams, type HostTensor } from "@sdxs/tensor";
import {
  adversarialDecoderDistillation,
  discriminatorParameters,
  patchDiscriminator,
  tinyDecoderDistillation,
  tinyDecoderParameters,
  type Discriminator,
} from "@sdxs/tiny-vae";
import { alternatingTask, takeRows } from "@sdxs/training";
import { firstRows, mapBatches, rowCount } from "../../rows.js";
import { tinyDecoderConfig as config } from "./models.js";
import { imageDecoder, imageSpec, latentSpec } from "./networks.js";
import { annealed, runTask } from "./run-task.js";
import { runStage, type StageOptions } from "./stage.js";

export interface DecoderBudget {
  /** Updates of the tiny decoder without the GAN. */
  readonly decoderSteps: number;
  /** Updates with it, after these. */
  readonly ganSteps: number;
}

/** Chosen: for the same time, four times as many steps of two pictures are worth more than steps of eight. */
const batchSize = 2;
/** Latents that the large decoder decodes at once. */
const decodedBatch = 8;
/** Pictures that the tiny decoder learns from: more take longer to decode than they help. */
const pictures = 1024;

/** Chosen: Equation 5's L1 on small images keeps the colours, the terms at full size the edges that its GAN sharpens. */
export const decoderWeights = { downsampled: 0.5, l1: 1, ssim: 0.25 };

/** Judges patches of 38 x 38 pixels. Chosen: a quarter of the default's channels, as the decoder is small. */
export const imageDiscriminator: Discriminator = (ops, p, [images]) =>
  patchDiscriminator(ops, p, images!, { channels: [16, 32, 64] });
/** Chosen: slow, as it outruns a decoder whose images are still coarse. */
export const discriminatorRate = constantSchedule(1e-4);

/**
 * Chosen, with 1,000 steps each: the teacher's latents came to a Fréchet distance of 66 without GAN, of 56 at a lambda_GAN of
 * 0.1, and of 54 at 0.3; after 3,000 steps at 0.3, of 49. The large decoder's pictures have 44.
 */
const lambdaGan = 0.3;

/**
 * The tiny decoder from the large one's pictures of the teacher's latents, Equation 5: first by distances alone, then with
 * the GAN.
 *
 * @param samples the teacher's latents [pictures, 4, 16, 16]
 */
export async function distilDecoder<D>(
  options: StageOptions<D> & { readonly budget: DecoderBudget },
  samples: HostTensor,
): Promise<HostParams> {
  const { backend, teacher, seed, budget, signal, onProgress } = options;
  const latents = firstRows(samples, Math.min(rowCount(samples), pictures));
  const { config: large, params: frozen } = teacher.autoencoder;
  const { images } = await mapBatches(backend, imageDecoder(large), frozen, { latents }, decodedBatch, {
    ...(signal && { signal }),
    onBatch: (done) => onProgress?.("decoder's pictures", { step: done, steps: rowCount(latents), metrics: {} }),
  });
  const learner = (purpose: string) => ({
    inputs: { latents: latentSpec(batchSize), image: imageSpec(batchSize) },
    batch(step: number) {
      const rows = random(seed, purpose, step).integers([batchSize], 0, rowCount(latents)).data;
      return { latents: takeRows(latents, rows), image: takeRows(images, rows) };
    },
    batchSize,
    optimizer: { weightDecay: 0, clipNorm: 1, emaDecay: 0.99 },
  });

  const smooth = await runStage(options, "tiny decoder", {
    ...learner("tiny decoder"),
    program: tinyDecoderDistillation(config, { weights: decoderWeights }),
    params: initialize(tinyDecoderParameters(config), seed),
    learningRate: annealed(4e-3, budget.decoderSteps, 1e-4),
    steps: budget.decoderSteps,
  });
  if (budget.ganSteps === 0) return smooth;

  const discriminator = imageDiscriminator;
  const players = adversarialDecoderDistillation(config, { weights: decoderWeights, lambdaGan, discriminator });
  const shared = learner("tiny decoder, GAN");
  const task = await alternatingTask({
    name: "tiny decoder, GAN",
    backend,
    steps: budget.ganSteps,
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
        params: smooth,
        learningRate: annealed(1e-3, budget.ganSteps, 1e-4),
      },
    },
  });
  return runTask(options, task, () => task.weights("decoder", { averaged: true }));
}
