import { initialize, random, type Backend, type HostParams, type HostTensor } from "@sdxs/tensor";
import { tinyEncoderDistillation, tinyEncoderParameters, type AutoencoderTinyConfig } from "@sdxs/tiny-vae";
import { gradientTask, takeRows } from "@sdxs/training";
import { mapBatches, rowCount } from "../../rows.js";
import type { EmojiDataset } from "./dataset.js";
import { tinyDecoderConfig } from "./models.js";
import { imageEncoder } from "../../diffusion-model.js";
import { imageSpec, latentSpec } from "./networks.js";
import { annealed, runTask, type RunTaskOptions } from "../../run-task.js";
import type { StageOptions } from "./stage.js";
import { decoderFinalRate, decoderOptimizer } from "./tiny-decoder.js";

export interface EncoderBudget {
  /** Updates of the tiny encoder; 0 for none, without which there is no image-to-image. */
  readonly encoderSteps: number;
}

/** One training of a tiny encoder. */
export interface EncoderTraining {
  /** Of its folder and its log. */
  readonly name: string;
  readonly config: AutoencoderTinyConfig;
  readonly steps: number;
  /** What it encodes, [pictures, 3, 64, 64] in [-1, 1]. */
  readonly images: HostTensor;
  /** The large encoder's of them in the diffusion model's scale, [pictures, 4, 16, 16]. */
  readonly latents: HostTensor;
  /** What the random choice of pictures is seeded with besides the seed. */
  readonly purpose: string;
}

/** Pictures of a step, as for tiny decoders that learn from thousands. */
export const encoderBatch = 8;
/** Chosen for the tiny autoencoder that `npm run recipe:emoji -- tiny-vae` compares: 2e-3 was slow, 1e-2 little faster. */
const learningRate = 5e-3;
const emaDecay = 0.999;

/** Pictures that the student's encoder learns from, as many as the compared one has. */
const pictures = 2048;
/** Pictures that the large encoder encodes at once. */
const encodedBatch = 16;

/**
 * The student's encoder, for image-to-image, from the large one's latents. It learns from the training set's pictures: what it
 * is given later was drawn by people, not by the teacher.
 */
export async function distilEncoder<D>(
  options: StageOptions<D> & { readonly dataset: EmojiDataset; readonly budget: EncoderBudget },
): Promise<HostParams> {
  const { backend, teacher, dataset, seed, budget, signal, onProgress } = options;
  const { images } = dataset.batch(seed, 0, pictures);
  const { config, params } = teacher.autoencoder;
  const { latents } = await mapBatches(backend, imageEncoder(config), params, { images }, encodedBatch, {
    ...(signal && { signal }),
    onBatch: (step) => onProgress?.("encoder's latents", { step, steps: pictures, metrics: {} }),
  });
  return trainTinyEncoder(options, {
    name: "tiny encoder",
    config: tinyDecoderConfig,
    steps: budget.encoderSteps,
    images,
    latents,
    purpose: "tiny encoder",
  });
}

/** A tiny encoder by the mean squared error of latents, its averaged weights. */
export async function trainTinyEncoder<D>(
  options: RunTaskOptions & { readonly backend: Backend<D>; readonly seed: number },
  { name, config, steps, images, latents, purpose }: EncoderTraining,
): Promise<HostParams> {
  const { backend, seed } = options;
  const task = await gradientTask({
    name,
    backend,
    steps,
    program: tinyEncoderDistillation(config),
    params: initialize(tinyEncoderParameters(config), seed),
    inputs: { image: imageSpec(encoderBatch), latents: latentSpec(encoderBatch) },
    batch(step) {
      const rows = random(seed, purpose, step).integers([encoderBatch], 0, rowCount(latents)).data;
      return { image: takeRows(images, rows), latents: takeRows(latents, rows) };
    },
    optimizer: { ...decoderOptimizer, emaDecay },
    learningRate: annealed(learningRate, steps, decoderFinalRate),
  });
  return runTask(options, task, () => task.weights({ averaged: true }));
}
