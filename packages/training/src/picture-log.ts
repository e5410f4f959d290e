import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { replaceFile } from "@sdxs/tensor/node";
import { fileFailure } from "./file-failure.js";
import { checkCount } from "./learner.js";
import { stepFileName, stepFiles } from "./step-files.js";
import type { Metrics } from "./training-task.js";

export interface PictureLogOptions {
  /** A separate folder; made if it is missing. */
  readonly folder: string;
  /** The encoded file of one step's image, which the model generates from the same noise and prompts each time. */
  readonly draw: (step: number) => Uint8Array | Promise<Uint8Array>;
  /** How many images to keep, the newest. Default: all. */
  readonly keep?: number;
  /** Of the files' names. Default "png". */
  readonly extension?: string;
}

/**
 * Writes images during a training, "step-000000500.png", as the `run` of `train`'s `validate`. A training that is resumed
 * replaces the images of the steps that it repeats; a killed one leaves no incomplete file under such a name.
 *
 * @returns a function that generates and writes the image of a step, and reports no metrics.
 * @throws InvalidArgumentError where `keep` is out of range. The function: SdxsError with code FILE_FAILURE where the folder
 * cannot be written.
 *
 * @example
 * const images = pictureLog({
 *   folder: "run/images", keep: 20,
 *   draw: async () => sharp(await samplePixels(task), { raw: { width, height, channels: 3 } }).png().toBuffer(),
 * });
 * await train(task, { validate: { everySteps: 500, run: images } });
 */
export function pictureLog(options: PictureLogOptions): (step: number) => Promise<Metrics> {
  const { folder, draw, keep = Infinity, extension = "png" } = options;
  if (keep !== Infinity) checkCount("pictureLog", "keep", keep);
  return async (step) => {
    await mkdir(folder, { recursive: true }).catch((cause: unknown) => fileFailure("pictureLog", folder, cause));
    await replaceFile(join(folder, stepFileName(step, extension)), [await draw(step)]);
    for (const old of stepFiles(await readdir(folder), extension).slice(keep)) await rm(join(folder, old));
    return {};
  };
}
