import { mkdir, copyFile } from "node:fs/promises";
import { join } from "node:path";
import {
  cosineSchedule,
  initialize,
  prefixed,
  random,
  select,
  type Backend,
  type HostParams,
  type HostTensor,
} from "@sdxs/tensor";
import { unetParameters } from "@sdxs/tiny-unet";
import { autoencoderKlParameters, klDecoderParameters, type AutoencoderKlConfig } from "@sdxs/tiny-vae";
import { textEncoderParameters } from "@sdxs/runtime";
import { saveModel, savePipelineFolder } from "@sdxs/runtime/node";
import { gradientTask, takeRows } from "@sdxs/training";
import { cachedRows } from "@sdxs/training/node";
import { loadEmojiDataset, type EmojiDataset } from "./dataset.js";
import { autoencoderConfig, promptTokens, teacherConfig, textEncoderConfig } from "./models.js";
import { imageEncoder, teacherTraining } from "../../diffusion-model.js";
import { autoencoderTraining, decoderTraining, imageSpec, latentSpec, promptSpec } from "./networks.js";
import { mapBatches } from "../../rows.js";
import { teacherPipeline } from "./pipelines.js";
import { runTask, type RunTaskOptions } from "../../run-task.js";
import { readTeacher } from "./teacher.js";
import { readTokenizer, tokenizerFiles, tokenizerFolder } from "./tokenizer.js";

export interface TeacherTrainingOptions<D> extends RunTaskOptions {
  readonly backend: Backend<D>;
  /** Where the finished models go, in diffusers' layout. */
  readonly outputFolder: string;
  readonly seed: number;
  readonly autoencoderSteps: number;
  readonly teacherSteps: number;
  readonly decoderSteps: number;
}

/** Chosen for two cores: at 8 and 16 samples a step the processor's matrix kernels are near their full speed. */
const autoencoderBatch = 8;
const teacherBatch = 16;
/** Pictures, as placed and captioned once, whose latents are cached: about 16 of each concept, style and background. */
const cachedSamples = 12_000;
/** Share of empty captions, for classifier-free guidance (arXiv:2207.12598 uses 0.1 to 0.2). */
const unconditionalRate = 0.1;

/**
 * Trains the autoencoder, on its latents the teacher, and at last the decoder alone, which is slower to learn than the
 * encoder. Saves all as fp16 in diffusers' layout, and at the end what makes it a whole pipeline's folder.
 */
export async function trainTeacher<D>(options: TeacherTrainingOptions<D>): Promise<void> {
  const dataset = await loadEmojiDataset();
  const weights = await trainAutoencoder(options, dataset);
  const config = {
    ...autoencoderConfig,
    scaling_factor: await latentScale(options.backend, dataset, options.seed, weights),
  };
  const cache = await cachedLatents(options, dataset, config, weights);
  await trainUNet(options, cache);
  await finishDecoder(options, dataset, config, weights, cache.latents);
  const components = teacherPipeline(await readTeacher(options.outputFolder));
  await savePipelineFolder(options.outputFolder, { components }, { dtype: "F16" });
}

async function trainAutoencoder<D>(options: TeacherTrainingOptions<D>, dataset: EmojiDataset): Promise<HostParams> {
  const { backend, seed } = options;
  const task = await gradientTask({
    name: "autoencoder",
    backend,
    program: autoencoderTraining(autoencoderConfig),
    params: initialize(autoencoderKlParameters(autoencoderConfig), seed),
    inputs: { images: imageSpec(autoencoderBatch), noise: latentSpec(autoencoderBatch) },
    batch: (step) => ({
      images: dataset.batch(seed, step * autoencoderBatch, autoencoderBatch).images,
      noise: random(seed, "autoencoder noise", step).normal(latentSpec(autoencoderBatch).shape),
    }),
    batchSize: autoencoderBatch,
    optimizer: { weightDecay: 0, clipNorm: 1, emaDecay: 0.99 },
    learningRate: cosineSchedule({
      rate: 6e-4,
      warmupSteps: 50,
      totalSteps: options.autoencoderSteps,
      finalRate: 3e-5,
    }),
    steps: options.autoencoderSteps,
  });
  return runTask(options, task, () => task.weights({ averaged: true }), { checkpointEverySeconds: 60 });
}

/** Trains the decoder on the latents of the finished encoder, and saves the whole autoencoder. */
async function finishDecoder<D>(
  options: TeacherTrainingOptions<D>,
  dataset: EmojiDataset,
  config: AutoencoderKlConfig,
  weights: HostParams,
  latents: HostTensor,
): Promise<void> {
  const { backend, outputFolder, seed, decoderSteps } = options;
  const isDecoder = (name: string): boolean => name in klDecoderParameters(config);
  const task = await gradientTask({
    name: "decoder",
    backend,
    program: decoderTraining(config),
    params: Object.fromEntries(Object.entries(weights).filter(([name]) => isDecoder(name))),
    inputs: { latents: latentSpec(autoencoderBatch), images: imageSpec(autoencoderBatch) },
    batch(step) {
      const first = (step * autoencoderBatch) % cachedSamples;
      const rows = Array.from({ length: autoencoderBatch }, (_, i) => first + i);
      return { latents: takeRows(latents, rows), images: dataset.batch(seed, first, autoencoderBatch).images };
    },
    batchSize: autoencoderBatch,
    optimizer: { weightDecay: 0, clipNorm: 1, emaDecay: 0.99 },
    learningRate: cosineSchedule({ rate: 6e-4, warmupSteps: 50, totalSteps: decoderSteps, finalRate: 2e-5 }),
    steps: decoderSteps,
  });
  const decoder = await runTask(options, task, () => task.weights({ averaged: true }), { checkpointEverySeconds: 60 });
  const model = { className: "AutoencoderKL", config, params: { ...weights, ...decoder } } as const;
  await saveModel(join(outputFolder, "vae"), model, { dtype: "F16" });
}

/** 1 / the latents' standard deviation, so that the diffusion model's latents have one of 1. */
async function latentScale<D>(
  backend: Backend<D>,
  dataset: EmojiDataset,
  seed: number,
  weights: HostParams,
): Promise<number> {
  const { images } = dataset.batch(seed, 0, 256); // chosen: enough for two digits
  const program = imageEncoder({ ...autoencoderConfig, scaling_factor: 1 });
  const { latents } = await mapBatches(backend, program, weights, { images }, 16);
  let squares = 0;
  for (const value of latents.data) squares += value * value;
  return Number((1 / Math.sqrt(squares / latents.data.length)).toPrecision(4));
}

async function trainUNet<D>(options: TeacherTrainingOptions<D>, { latents, ids }: LatentCache): Promise<void> {
  const { backend, outputFolder, seed } = options;
  const tokenizer = await readTokenizer();
  const textConfig = textEncoderConfig(tokenizer.vocabularySize);
  const emptyIds = tokenizer.encodeBatch([""], promptTokens);
  const task = await gradientTask({
    name: "teacher",
    backend,
    program: teacherTraining(teacherConfig, textConfig),
    params: {
      ...prefixed(initialize(unetParameters(teacherConfig), seed), "unet."),
      ...prefixed(initialize(textEncoderParameters(textConfig), seed), "text_encoder."),
    },
    inputs: {
      latents: latentSpec(teacherBatch),
      noise: latentSpec(teacherBatch),
      timestep: { shape: [teacherBatch], dtype: "int32" },
      ids: promptSpec(teacherBatch),
    },
    batch(step) {
      const stream = random(seed, "teacher", step);
      const rows = stream.at("rows").integers([teacherBatch], 0, cachedSamples).data;
      const captions = takeRows(ids, rows);
      stream
        .at("unconditional")
        .uniform([teacherBatch])
        .data.forEach((value, row) => {
          if (value < unconditionalRate) captions.data.set(emptyIds.data, row * promptTokens);
        });
      return {
        latents: takeRows(latents, rows),
        noise: stream.at("noise").normal(latentSpec(teacherBatch).shape),
        timestep: stream.at("timestep").integers([teacherBatch], 0, 1000),
        ids: captions,
      };
    },
    batchSize: teacherBatch,
    optimizer: { weightDecay: 0.01, clipNorm: 1, emaDecay: 0.995 },
    learningRate: cosineSchedule({ rate: 7e-4, warmupSteps: 200, totalSteps: options.teacherSteps, finalRate: 2e-5 }),
    steps: options.teacherSteps,
  });
  const save = async (): Promise<HostParams> => {
    const weights = await task.weights({ averaged: true });
    await saveTeacher(outputFolder, weights, tokenizer.vocabularySize);
    return weights;
  };
  // A look at the teacher on its way costs little: the averaged weights replace those saved before.
  const validate = { everySteps: 250, run: async () => save().then(() => ({})) };
  await runTask(options, task, save, { checkpointEverySeconds: 120, validate });
}

async function saveTeacher(folder: string, weights: HostParams, vocabularySize: number): Promise<void> {
  const unet = { className: "UNet2DConditionModel", config: teacherConfig, params: select(weights, "unet.") } as const;
  const textEncoder = {
    className: "CLIPTextModel",
    config: textEncoderConfig(vocabularySize),
    params: select(weights, "text_encoder."),
  } as const;
  await saveModel(join(folder, "unet"), unet, { dtype: "F16" });
  await saveModel(join(folder, "text_encoder"), textEncoder, { dtype: "F16" });
  await mkdir(join(folder, "tokenizer"), { recursive: true });
  for (const file of tokenizerFiles) {
    await copyFile(join(tokenizerFolder, file), join(folder, "tokenizer", file));
  }
}

interface LatentCache {
  /** Scaled [cachedSamples, 4, 16, 16]. */
  readonly latents: HostTensor;
  /** Token ids of the captions [cachedSamples, promptTokens]. */
  readonly ids: HostTensor;
}

/** Latents and token ids of `cachedSamples` pictures, computed once and kept in the work folder. */
async function cachedLatents<D>(
  { backend, workFolder, seed, signal, onProgress }: TeacherTrainingOptions<D>,
  dataset: EmojiDataset,
  config: AutoencoderKlConfig,
  weights: HostParams,
): Promise<LatentCache> {
  const tokenizer = await readTokenizer();
  const program = imageEncoder(config);
  return cachedRows({
    folder: join(workFolder, "latents"),
    key: `seed ${seed}, scale ${config.scaling_factor}`,
    count: cachedSamples,
    pieceSize: 1000, // chosen: the pictures of a piece take 49 MB
    dtype: "F16",
    async compute(first, count) {
      const { images, captions } = dataset.batch(seed, first, count);
      const { latents } = await mapBatches(backend, program, weights, { images }, 20);
      return { latents, ids: tokenizer.encodeBatch(captions, promptTokens) };
    },
    ...(signal && { signal }),
    onProgress: (step, steps) => onProgress?.("latents", { step, steps, metrics: {} }),
  });
}
