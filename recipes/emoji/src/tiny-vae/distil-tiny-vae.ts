import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { HostParams } from "@sdxs/tensor";
import type { TrainOptions } from "@sdxs/training";
import { firstRows, mapBatches, rowCount } from "../../../rows.js";
import { pixelQuality } from "../../../pixel-quality.js";
import { contactSheet } from "../../../contact-sheet.js";
import { tinyAutoencoderConfig as config } from "../models.js";
import type { RunTaskOptions } from "../../../run-task.js";
import { tinyImageDecoder } from "../networks.js";
import { decoderWeights, trainTinyDecoder, type DecoderTraining } from "../tiny-decoder.js";
import { trainTinyEncoder } from "../tiny-encoder.js";
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
  readonly weights: DecoderTraining["weights"];
  /** Share of the steps that has the GAN, the last ones. Default 0. */
  readonly ganShare?: number;
  /** Learns the pictures themselves instead, which a data-free distillation has not. Default false. */
  readonly fromOriginals?: boolean;
}

/** The objectives that are compared, each by the name of its training. */
export const decoderObjectives: Readonly<Record<string, DecoderObjective>> = {
  "plain MSE": { weights: { downsampled: 0, mse: 1 } },
  "plain MSE to the originals": { weights: { downsampled: 0, mse: 1 }, fromOriginals: true },
  "Equation 5 without GAN": { weights: decoderWeights },
  "Equation 5 with GAN": { weights: decoderWeights, ganShare: 3 / 8 },
};

/** Of every tiny network. Chosen: 2e-3 was slow; 1e-2 little faster. */
const learningRate = 5e-3;
/** Pictures of a step. Chosen: in 8,000 steps of 2, plain MSE to the originals came to 23.5 dB, and in 40,000 to 23.8; in 8,000 of 8 to 24.9. */
const batch = 8;
const emaDecay = 0.999;
/** The same pictures for every network. */
const purpose = "tiny autoencoders";

/** The tiny decoder by one of the objectives, its averaged weights. */
export function distilTinyDecoder<D>(
  options: TinyVaeDistillationOptions<D>,
  name: string,
  { weights, ganShare = 0, fromOriginals = false }: DecoderObjective,
): Promise<HostParams> {
  const { steps, training } = options;
  const ganSteps = Math.floor(ganShare * steps);
  return trainTinyDecoder(options, {
    name,
    config,
    budget: { decoderSteps: steps - ganSteps, ganSteps },
    batch,
    learningRate,
    emaDecay,
    weights,
    latents: training.latents,
    images: fromOriginals ? training.originals : training.decoded,
    purpose,
    validation: (part, partSteps, result) => decoderValidation(options, part, partSteps, result),
  });
}

/** The tiny encoder by the mean squared error of latents, its averaged weights. */
export function distilTinyEncoder<D>(options: TinyVaeDistillationOptions<D>): Promise<HostParams> {
  const { steps, training } = options;
  const { originals: images, latents } = training;
  return trainTinyEncoder(options, { name: "tiny encoder", config, steps, images, latents, purpose });
}

/** Held-out pictures on the way: PSNR to the large decoder's, and a sheet of the first ones beside the checkpoints. */
function decoderValidation<D>(
  { backend, heldOut, workFolder }: TinyVaeDistillationOptions<D>,
  name: string,
  steps: number,
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
