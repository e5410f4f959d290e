import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { initialize, random, type HostParams } from "@sdxs/tensor";
import {
  adversarialDecoderDistillation,
  discriminatorParameters,
  tinyDecoderDistillation,
  tinyDecoderParameters,
  tinyEncoderDistillation,
  tinyEncoderParameters,
  type TinyDecoderDistillationOptions,
} from "@sdxs/tiny-vae";
import { alternatingTask, gradientTask, takeRows, type TrainOptions } from "@sdxs/training";
import { firstRows, mapBatches, rowCount } from "../../../rows.js";
import { contactSheet } from "../contact-sheet.js";
import { tinyAutoencoderConfig as config } from "../models.js";
import { imageSpec, latentSpec, tinyImageDecoder } from "../networks.js";
import { annealed, runTask, type RunTaskOptions } from "../run-task.js";
import { decoderWeights, discriminatorRate, imageDiscriminator } from "../tiny-decoder.js";
import { pixelQuality } from "./image-quality.js";
import type { ReconstructedPictures, ReconstructionOptions } from "./pictures.js";

export interface TinyVaeDistillationOptions<D> extends ReconstructionOptions<D>, RunTaskOptions {
  readonly seed: number;
  /** Updates of each network. */
  readonly steps: number;
  readonly training: ReconstructedPictures;
  /** None of the training's; looked at on the way. */
  readonly heldOut: ReconstructedPictures;
}

/** What a tiny decoder learns from the large one's images. */
interface DecoderObjective {
  readonly weights: NonNullable<TinyDecoderDistillationOptions["weights"]>;
  /** Default: no discriminator. */
  readonly lambdaGan?: number;
  /** Learns the pictures themselves instead, which a data-free distillation has not. Default false. */
  readonly fromOriginals?: boolean;
}

/**
 * The objectives that are compared, each by the name of its training. Chosen: a lambda_GAN of 0.03 leaves the norm of the
 * decoder's gradient as it is without.
 */
export const decoderObjectives: Readonly<Record<string, DecoderObjective>> = {
  "plain MSE": { weights: { downsampled: 0, mse: 1 } },
  "plain MSE to the originals": { weights: { downsampled: 0, mse: 1 }, fromOriginals: true },
  "Equation 5 without GAN": { weights: decoderWeights },
  "Equation 5 with GAN": { weights: decoderWeights, lambdaGan: 0.03 },
};

/**
 * Pictures of a step. Chosen: of the same 2,400 pictures, MSE in steps of 8, 4 and 2 gave held-out images of 20.3, 23.7 and
 * 25.1 dB.
 */
const batch = 2;
/** Of every tiny network. Chosen: 2e-3, the quickstart's, was slow; 1e-2 little faster. */
const learningRate = 5e-3;
const finalRate = 1e-4;
const optimizer = { weightDecay: 0, clipNorm: 1, emaDecay: 0.99 };

/** The tiny decoder by one of the objectives, its averaged weights. */
export async function distilTinyDecoder<D>(
  options: TinyVaeDistillationOptions<D>,
  name: string,
  { weights, lambdaGan, fromOriginals = false }: DecoderObjective,
): Promise<HostParams> {
  const { backend, seed, steps, training } = options;
  const params = initialize(tinyDecoderParameters(config), seed);
  const targets = fromOriginals ? training.originals : training.decoded;
  const common = {
    inputs: { latents: latentSpec(batch), image: imageSpec(batch) },
    batch(step: number) {
      const rows = randomRows(options, step);
      return { latents: takeRows(training.latents, rows), image: takeRows(targets, rows) };
    },
    optimizer,
  };
  const rate = annealed(learningRate, steps, finalRate);
  if (lambdaGan === undefined) {
    const program = tinyDecoderDistillation(config, { weights });
    const task = await gradientTask({ name, backend, steps, ...common, program, params, learningRate: rate });
    const averaged = () => task.weights({ averaged: true });
    return runTask(options, task, averaged, decoderValidation(options, name, averaged));
  }
  const discriminator = imageDiscriminator;
  const players = adversarialDecoderDistillation(config, { weights, lambdaGan, discriminator });
  const task = await alternatingTask({
    name,
    backend,
    steps,
    learners: {
      discriminator: {
        ...common,
        program: players.discriminator,
        params: initialize(discriminatorParameters(imageSpec(1).shape, { discriminator }), seed),
        learningRate: discriminatorRate,
      },
      decoder: { ...common, program: players.decoder, params, learningRate: rate },
    },
  });
  const averaged = () => task.weights("decoder", { averaged: true });
  return runTask(options, task, averaged, decoderValidation(options, name, averaged));
}

/** The tiny encoder by the mean squared error of latents, its averaged weights. */
export async function distilTinyEncoder<D>(options: TinyVaeDistillationOptions<D>): Promise<HostParams> {
  const { backend, seed, steps, training } = options;
  const task = await gradientTask({
    name: "tiny encoder",
    backend,
    steps,
    program: tinyEncoderDistillation(config),
    params: initialize(tinyEncoderParameters(config), seed),
    inputs: { image: imageSpec(batch), latents: latentSpec(batch) },
    batch(step) {
      const rows = randomRows(options, step);
      return { image: takeRows(training.originals, rows), latents: takeRows(training.latents, rows) };
    },
    optimizer,
    learningRate: annealed(learningRate, steps, finalRate),
  });
  return runTask(options, task, () => task.weights({ averaged: true }));
}

/** The pictures of a step: the same for every network. */
function randomRows<D>({ seed, training }: TinyVaeDistillationOptions<D>, step: number): ArrayLike<number> {
  return random(seed, "tiny autoencoders", step).integers([batch], 0, rowCount(training.latents)).data;
}

/** Held-out pictures on the way: PSNR to the large decoder's, and a sheet of the first ones beside the checkpoints. */
function decoderValidation<D>(
  { backend, steps, heldOut, workFolder }: TinyVaeDistillationOptions<D>,
  name: string,
  weights: () => Promise<HostParams>,
): Pick<TrainOptions, "validate"> {
  const shown = 10;
  const latents = firstRows(heldOut.latents, Math.min(32, rowCount(heldOut.latents)));
  const decoded = firstRows(heldOut.decoded, rowCount(latents));
  return {
    validate: {
      everySteps: Math.ceil(steps / 4),
      async run(step) {
        const { images } = await mapBatches(backend, tinyImageDecoder(config), await weights(), { latents }, 16);
        const pictures = firstRows(images, Math.min(shown, rowCount(images)));
        const sheet = await contactSheet(
          pictures,
          Array.from({ length: rowCount(pictures) }, () => ""),
        );
        await writeFile(join(workFolder, name, `validation-${step}.png`), sheet);
        return { ...(await pixelQuality(backend, images, decoded)) };
      },
    },
  };
}
