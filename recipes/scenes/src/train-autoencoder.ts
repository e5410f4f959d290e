import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import {
  HostTensor,
  cosineSchedule,
  initialize,
  prefixed,
  random,
  type Backend,
  type HostParams,
  type Random,
} from "@sdxs/tensor";
import { klDecoderParameters } from "@sdxs/tiny-vae";
import { loadModel, saveModel } from "@sdxs/runtime/node";
import { gradientTask, type GradientTask, type Metrics } from "@sdxs/training";
import { imageDecoder, imageEncoder } from "../../diffusion-model.js";
import { pictureSheet } from "../../picture-sheet.js";
import { mean, pixelQuality, type PixelQuality } from "../../pixel-quality.js";
import { firstRows, mapBatches } from "../../rows.js";
import { runTask, type RunTaskOptions } from "../../run-task.js";
import { blockSize, principalComponents, type LinearCodec } from "./linear-codec.js";
import { linearEncoder, withSmallResiduals } from "./linear-encoder.js";
import { autoencoderConfig, latentChannels } from "./models.js";
import { autoencoderTraining, decoderTraining, finishingTraining, linearLatents } from "./networks.js";
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

type SceneOptions<D> = Omit<AutoencoderTrainingOptions<D>, "decoderSteps">;

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
  const { backend, decoderSteps, steps } = options;
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
  await runMeasured(options, task, (weights, images) => saveAndReconstruct(options, weights, images));
}

/** Saves the autoencoder, with the scale of these images' latents if none is given, and gives what it makes of them. */
async function saveAndReconstruct<D>(
  { backend, outputFolder }: SceneOptions<D>,
  params: HostParams,
  images: HostTensor,
  scale?: number,
): Promise<Record<"latents" | "decoded", HostTensor>> {
  const { latents } = await mapBatches(backend, imageEncoder(unscaled), params, { images }, 8);
  const deviation = Math.sqrt(mean(latents.data.map((value) => value * value)));
  const config = { ...autoencoderConfig, scaling_factor: scale ?? Number((1 / deviation).toPrecision(4)) };
  await saveModel(outputFolder, { className: "AutoencoderKL", config, params }, { dtype: "F16" });
  return { latents, decoded: await decode({ backend }, params, latents) };
}

/**
 * Trains the autoencoder in the output folder further, on ever new scenes, and saves it there. Without `withEncoder` the encoder
 * and its scale stay as they are, so that what was learned of its latents stays true.
 */
export async function finishAutoencoder<D>(
  options: SceneOptions<D> & { readonly rate: number; readonly withEncoder: boolean },
): Promise<void> {
  const { backend, outputFolder, steps, rate, withEncoder } = options;
  const { config, params } = await loadModel(outputFolder, { className: "AutoencoderKL" });
  const learns = (name: string): boolean => withEncoder || name in klDecoderParameters(config);
  const entries = Object.entries(params);
  const frozen = Object.fromEntries(entries.filter(([name]) => !learns(name)));
  const task = await gradientTask({
    name: withEncoder ? "finished autoencoder" : "finished decoder",
    backend,
    program: withEncoder ? autoencoderTraining(config) : finishingTraining(config),
    params: Object.fromEntries(entries.filter(([name]) => learns(name))),
    frozen: prefixed(frozen, "frozen."),
    ...scenesOf(options, stepsBeforeFinish),
    optimizer: { weightDecay: 0, clipNorm: 1, emaDecay: 0.995 },
    learningRate: cosineSchedule({
      rate,
      warmupSteps: Math.min(100, Math.floor(steps / 10)),
      totalSteps: steps,
      finalRate: rate / 20,
    }),
    steps,
  });
  const scale = withEncoder ? undefined : config.scaling_factor;
  await runMeasured(options, task, (weights, images) =>
    saveAndReconstruct(options, { ...frozen, ...weights }, images, scale),
  );
}

/** Scenes in memory at once: 19 MB. */
const measuredTogether = 96;

/** How near the saved autoencoder's reconstructions are to the first held-out scenes, means over all. */
export async function measureAutoencoder<D>(
  { backend, scenes, seed, outputFolder }: Pick<SceneOptions<D>, "backend" | "scenes" | "seed" | "outputFolder">,
  count: number,
): Promise<PixelQuality> {
  const { config, params } = await loadModel(outputFolder, { className: "AutoencoderKL" });
  const sums = { psnr: 0, ssim: 0 };
  for (let first = 0; first < count; first += measuredTogether) {
    const size = Math.min(measuredTogether, count - first);
    const { images } = scenes.batch(seed, first, size);
    const { latents } = await mapBatches(backend, imageEncoder(config), params, { images }, 8);
    const decoded = await mapBatches(backend, imageDecoder(config), params, { latents }, 8);
    const { psnr, ssim } = await pixelQuality(backend, decoded.images, images);
    sums.psnr += size * psnr;
    sums.ssim += size * ssim;
  }
  return { psnr: sums.psnr / count, ssim: sums.ssim / count };
}

/** Chosen: beyond the scenes that the autoencoder has had. */
const stepsBeforeFinish = 100_000;

const unscaled = { ...autoencoderConfig, scaling_factor: 1 };

async function decode<D>({ backend }: { readonly backend: Backend<D> }, params: HostParams, latents: HostTensor) {
  return (await mapBatches(backend, imageDecoder(unscaled), params, { latents }, 8)).images;
}

/** The inputs of both trainings: parts of scenes that no step of either has had, and noise of their latents' shape. */
function scenesOf<D>({ scenes, seed, batch, crop }: SceneOptions<D>, stepsBefore: number) {
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
  options: SceneOptions<D>,
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
