import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import {
  HostTensor,
  cosineSchedule,
  initialize,
  random,
  type Backend,
  type HostParams,
  type Random,
} from "@sdxs/tensor";
import { klDecoderParameters } from "@sdxs/tiny-vae";
import { saveModel } from "@sdxs/runtime/node";
import { gradientTask, type GradientTask, type Metrics } from "@sdxs/training";
import { imageDecoder, imageEncoder } from "../../diffusion-model.js";
import { pictureSheet } from "../../picture-sheet.js";
import { mean, pixelQuality } from "../../pixel-quality.js";
import { firstRows, mapBatches } from "../../rows.js";
import { runTask, type RunTaskOptions } from "../../run-task.js";
import { blockSize, principalComponents, type LinearCodec } from "./linear-codec.js";
import { linearEncoder, withSmallResiduals } from "./linear-encoder.js";
import { autoencoderConfig, latentChannels } from "./models.js";
import { autoencoderTraining, decoderTraining, linearLatents } from "./networks.js";
import { heldOutScenes, type SceneSource } from "./scenes.js";

export interface AutoencoderTrainingOptions<D> extends RunTaskOptions {
  readonly backend: Backend<D>;
  readonly scenes: SceneSource;
  /** Where the model goes, in diffusers' layout. */
  readonly outputFolder: string;
  readonly seed: number;
  /** Of the decoder alone, on the latents of a linear codec. */
  readonly decoderSteps: number;
  /** Of encoder and decoder together, from there on. */
  readonly steps: number;
  /** Scenes a step. */
  readonly batch: number;
  /** Height and width of the part of each scene that is learned from, in pixels. */
  readonly crop: number;
}

/** Scenes that the linear codec is made of, and every so many of their blocks: 8,533 for a covariance of 192 x 192. */
const codecScenes = 200;
const codecStride = 6;
/** Held-out scenes that reconstructions are measured on, and how many of them are shown. Chosen: seconds on two cores. */
const validationScenes = 48;
const shownScenes = 12;
const validationEverySteps = 500;

/**
 * Trains the decoder on the latents of a linear codec, then encoder and decoder together, the encoder beginning as that
 * codec. Saves the averaged weights as fp16 at each validation and in the end, and a sheet of reconstructions beside the logs.
 */
export async function trainAutoencoder<D>(options: AutoencoderTrainingOptions<D>): Promise<void> {
  const { scenes, seed } = options;
  const codec = principalComponents(scenes.batch(seed, heldOutScenes, codecScenes).images, latentChannels, codecStride);
  const decoder = await trainDecoder(options, codec);
  await trainBoth(options, { ...linearEncoder(autoencoderConfig, codec, seed), ...decoder });
}

async function trainDecoder<D>(options: AutoencoderTrainingOptions<D>, codec: LinearCodec): Promise<HostParams> {
  const { backend, seed, decoderSteps } = options;
  const frozen = { "linear.weight": codec.weight, "linear.bias": codec.bias };
  const task = await gradientTask({
    name: "decoder",
    backend,
    program: decoderTraining(autoencoderConfig),
    params: withSmallResiduals(initialize(klDecoderParameters(autoencoderConfig), seed)),
    frozen,
    ...scenesOf(options, 0),
    optimizer: { weightDecay: 0, clipNorm: 1, emaDecay: 0.995 },
    learningRate: cosineSchedule({ rate: 4e-4, warmupSteps: 50, totalSteps: decoderSteps, finalRate: 2e-4 }),
    steps: decoderSteps,
  });
  return runMeasured(options, task, async (params, images) => {
    const { latents } = await mapBatches(backend, linearLatents, frozen, { images }, 8);
    return { latents, decoded: await decode(options, params, latents) };
  });
}

async function trainBoth<D>(options: AutoencoderTrainingOptions<D>, params: HostParams): Promise<void> {
  const { backend, decoderSteps, steps, outputFolder } = options;
  const task = await gradientTask({
    name: "autoencoder",
    backend,
    program: autoencoderTraining(autoencoderConfig),
    params,
    ...scenesOf(options, decoderSteps),
    optimizer: { weightDecay: 0, clipNorm: 1, emaDecay: 0.995 },
    learningRate: cosineSchedule({ rate: 4e-4, warmupSteps: 100, totalSteps: steps, finalRate: 1e-5 }),
    steps,
  });
  await runMeasured(options, task, async (weights, images) => {
    const { latents } = await mapBatches(backend, imageEncoder(unscaled), weights, { images }, 8);
    const scale = 1 / Math.sqrt(mean(latents.data.map((value) => value * value)));
    const config = { ...autoencoderConfig, scaling_factor: Number(scale.toPrecision(4)) };
    await saveModel(outputFolder, { className: "AutoencoderKL", config, params: weights }, { dtype: "F16" });
    return { latents, decoded: await decode(options, weights, latents) };
  });
}

const unscaled = { ...autoencoderConfig, scaling_factor: 1 };

async function decode<D>({ backend }: { readonly backend: Backend<D> }, params: HostParams, latents: HostTensor) {
  return (await mapBatches(backend, imageDecoder(unscaled), params, { latents }, 8)).images;
}

/** The inputs of both trainings: parts of scenes that no step of either has had, and noise of their latents' shape. */
function scenesOf<D>({ scenes, seed, batch, crop }: AutoencoderTrainingOptions<D>, stepsBefore: number) {
  const noiseShape = [batch, latentChannels, crop / blockSize, crop / blockSize];
  return {
    inputs: { images: { shape: [batch, 3, crop, crop] }, noise: { shape: noiseShape } },
    batch(step: number) {
      const stream = random(seed, "autoencoder", stepsBefore + step);
      const { images } = scenes.batch(seed, heldOutScenes + (stepsBefore + step) * batch, batch);
      return { images: cropped(images, crop, stream.at("crops")), noise: stream.at("noise").normal(noiseShape) };
    },
    batchSize: batch,
  };
}

/** Runs a task, and at times measures and shows what its averaged weights make of held-out scenes. Gives these weights. */
function runMeasured<D>(
  options: AutoencoderTrainingOptions<D>,
  task: GradientTask,
  reconstruct: (params: HostParams, images: HostTensor) => Promise<Record<"latents" | "decoded", HostTensor>>,
): Promise<HostParams> {
  const { backend, scenes, seed, workFolder } = options;
  const measure = async (): Promise<Metrics> => {
    const { images, captions } = scenes.batch(seed, 0, validationScenes);
    const { latents, decoded } = await reconstruct(await task.weights({ averaged: true }), images);
    const sheet = await pictureSheet(captions.slice(0, shownScenes), [
      ["scene", firstRows(images, shownScenes)],
      ["reconstruction", firstRows(decoded, shownScenes)],
    ]);
    await writeFile(join(workFolder, "reconstructions.png"), sheet);
    const { psnr, ssim } = await pixelQuality(backend, decoded, images);
    return { psnr, ssim, latentSquare: mean(latents.data.map((value) => value * value)) };
  };
  return runTask(options, task, () => task.weights({ averaged: true }), {
    checkpointEverySeconds: 120,
    validate: { everySteps: validationEverySteps, run: measure },
  });
}

/** A square of each picture, at a place of the blocks' grid that is drawn from the stream. */
function cropped({ shape, data }: HostTensor, crop: number, stream: Random): HostTensor {
  const [count = 0, channels = 0, height = 0, width = 0] = shape;
  const corners = stream.integers([count, 2], 0, (width - crop) / blockSize + 1).data;
  const parts = new Float32Array(count * channels * crop * crop);
  let written = 0;
  for (let plane = 0; plane < count * channels; plane++) {
    const picture = Math.floor(plane / channels);
    const [top, left] = [blockSize * corners[2 * picture]!, blockSize * corners[2 * picture + 1]!];
    for (let row = 0; row < crop; row++, written += crop) {
      const from = (plane * height + top + row) * width + left;
      parts.set((data as Float32Array).subarray(from, from + crop), written);
    }
  }
  return new HostTensor([count, channels, crop, crop], parts);
}
