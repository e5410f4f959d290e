import { join } from "node:path";
import { dpmSolver, noiseLevelAt, oneStepConversion } from "@sdxs/diffusion";
import {
  featureMatchingWarmup,
  noiseImagePairs,
  oneStepGenerator,
  segmentedScoreDistillationTask,
  type FeatureExtractor,
  type FeatureMatchingWarmupOptions,
  type Generator,
  type ScoreFunction,
} from "@sdxs/one-step-trainer";
import {
  HostTensor,
  cosineSchedule,
  prefixed,
  random,
  scope,
  select,
  type Backend,
  type HostParams,
  type Program,
  type Random,
  type Schedule,
} from "@sdxs/tensor";
import { blockRemovalPresets, planBlockRemoval, unet, unetEncoder, type UNetConfig } from "@sdxs/tiny-unet";
import { takeRows } from "@sdxs/training";
import { cachedRows } from "@sdxs/training/node";
import type { EmojiDataset } from "./dataset.js";
import { noisePredictor, predictionType, promptEncoder, schedule } from "../../diffusion-model.js";
import { latentSize, promptTokens } from "./models.js";

import { latentSpec } from "./networks.js";
import { firstRows, mapBatches, rowCount, takeOutputs } from "../../rows.js";
import { annealed, runTask } from "../../run-task.js";
import { runStage, type StageOptions } from "./stage.js";
import type { Teacher } from "./teacher.js";
import { distilDecoder, type DecoderBudget } from "./tiny-decoder.js";
import { distilEncoder, type EncoderBudget } from "./tiny-encoder.js";

/** How much of everything a distillation does. */
export interface DistillationBudget extends DecoderBudget, EncoderBudget {
  /** Noise-image pairs that the teacher samples. */
  readonly pairs: number;
  readonly warmupSteps: number;
  /** Updates of the student by segmented score distillation; 0 for none, as in the quickstart, which has no time for it. */
  readonly scoreSteps: number;
}

/** What the quickstart does, which begins with the shipped tiny U-Net. Chosen: five minutes on two cores. */
export const quickstartBudget: DistillationBudget = {
  pairs: 832,
  decoderSteps: 2800,
  ganSteps: 0,
  encoderSteps: 0,
  warmupSteps: 450,
  scoreSteps: 0,
};

/** What `npm run recipe:emoji -- student` does, which begins with the shipped tiny U-Net. */
export const studentBudget: DistillationBudget = {
  pairs: 4096,
  decoderSteps: 8000,
  ganSteps: 3000,
  encoderSteps: 3000,
  warmupSteps: 1500,
  scoreSteps: 800,
};

export interface DistillationOptions<D> extends StageOptions<D> {
  readonly dataset: EmojiDataset;
  readonly budget: DistillationBudget;
}

/** A one-step model: prompts to latents by `unet`, latents to images by `decoder`. */
export interface Student {
  readonly unet: { readonly config: UNetConfig; readonly params: HostParams };
  readonly decoder: HostParams;
  /** Images to latents, for image-to-image. Where none was trained there is none. */
  readonly encoder?: HostParams;
}

export interface DistilledStudent extends Student {
  /** The student as the warm-up left it; the same where no scores were distilled. */
  readonly warmedUp: Student;
}

/** The stages of `distil` that train something, in their order. */
export const trainingStages = [
  "tiny decoder",
  "tiny decoder, GAN",
  "tiny encoder",
  "one-step student",
  "score distillation",
] as const;

/** Steps and guidance of the teacher wherever pictures of it are shown: SDXS's comparison uses 32 (paper, Table 1). */
export const teacherSteps = 32;
/** Chosen: the fewest steps in which this teacher draws nearly what it draws in 32; what a student's speed is fairly compared with. */
export const fewTeacherSteps = 4;
export const guidanceScale: number = 2;

/** Steps of the ODE sampler for the pairs. Chosen: DPM-Solver++ is near its limit there, at a fifth of the cost. */
export const pairSteps = 6;
/** Pairs sampled at once; with guidance the network sees twice as many. */
const pairBatch = 32;
const warmupBatch = 16;
const scoreBatch = 16;

/**
 * The tiny U-Net of the paper's Section 3.1: no mid stage, no lowest level, no transformers at the highest resolution.
 * That leaves 61% of this teacher, whose lowest levels are equally wide; without transformers at the lowest level that
 * stays, too, it is 46%, as the paper's keeps less than half of SD's.
 */
export function studentPlan(teacher: Teacher) {
  const levels = teacher.unet.config.block_out_channels.length - 1;
  const isBare = (level: number): boolean => level === 0 || (level === levels - 1 && levels > 2);
  return planBlockRemoval(teacher.unet.config, {
    ...blockRemovalPresets["sdxs-512"],
    transformerLayers: Array.from({ length: levels }, (_, level) => (isBare(level) ? 0 : 1)),
  });
}

/**
 * The rest of the method, from a tiny U-Net on: tiny decoder, where the budget has it a tiny encoder, one-step student by the
 * warm-up and, where the budget has it, by scores.
 */
export async function distil<D>(
  options: DistillationOptions<D> & { readonly tiny: HostParams },
): Promise<DistilledStudent> {
  const { dataset, seed, budget, tiny } = options;
  const pairs = await samplePairs(options, { captions: dataset.batch(seed, 0, budget.pairs).captions });
  const decoder = await distilDecoder(options, pairs.target);
  const encoder = budget.encoderSteps > 0 && { encoder: await distilEncoder(options) };
  const { config } = studentPlan(options.teacher);
  const warm = await warmUp(options, pairs, tiny);
  const warmedUp: Student = { unet: { config, params: warm }, decoder, ...encoder };
  if (options.budget.scoreSteps === 0) return { ...warmedUp, warmedUp };
  return { unet: { config, params: await distilScores(options, pairs, warm) }, decoder, ...encoder, warmedUp };
}

export interface Pairs {
  /** epsilon [pairs, 4, 16, 16] */
  readonly noise: HostTensor;
  /** The teacher's sample of it. */
  readonly target: HostTensor;
  /** Text embeddings [pairs, tokens, features]. */
  readonly context: HostTensor;
}

/** Text embeddings [prompts, tokens, features]. */
export async function encodePrompts<D>(
  backend: Backend<D>,
  { tokenizer, textEncoder }: Teacher,
  prompts: readonly string[],
): Promise<HostTensor> {
  const ids = tokenizer.encodeBatch(prompts, promptTokens);
  const program = promptEncoder(textEncoder.config);
  return (await mapBatches(backend, program, textEncoder.params, { ids }, Math.min(prompts.length, 64))).context;
}

/** The teacher as a function from contexts to its samples, with guidance, `batch` prompts at a time. */
export async function teacherSampler<D>(
  backend: Backend<D>,
  teacher: Teacher,
  options: { readonly steps: number; readonly batch: number; readonly seed: number | string },
) {
  const { shape, data } = await encodePrompts(backend, teacher, [""]);
  const contextShape = shape.slice(1); // [tokens, features]
  const seen = 2 * options.batch;
  const compiled = await backend.compile(noisePredictor(teacher.unet.config), {
    frozen: teacher.unet.params,
    inputs: {
      sample: latentSpec(seen),
      timestep: { shape: [seen] },
      context: { shape: [seen, ...contextShape] },
    },
  });
  const sample = noiseImagePairs({
    seed: options.seed,
    sampleShape: latentSpec(1).shape.slice(1),
    plan: dpmSolver(schedule, { steps: options.steps, prediction: predictionType, spacing: "trailing" }),
    guidance: { scale: guidanceScale, unconditional: new HostTensor(contextShape, data) },
    async predict(noisy, timestep, context) {
      const timesteps = HostTensor.filled([seen], timestep);
      const outputs = await compiled.run({}, { sample: noisy, timestep: timesteps, context });
      return (await takeOutputs(backend, outputs)).output;
    },
  });
  return { sample, dispose: () => compiled.dispose() };
}

/**
 * Pairs of noise and the teacher's sample of it, one for each caption, kept in the work folder.
 *
 * @param sampling.name of their folder. Default "pairs"
 * @param sampling.steps of the ODE sampler. Default `pairSteps`
 * @param sampling.seed of the noise. Default the options'
 */
export async function samplePairs<D>(
  options: StageOptions<D>,
  sampling: {
    readonly captions: readonly string[];
    readonly name?: string;
    readonly steps?: number;
    readonly seed?: string;
  },
): Promise<Pairs> {
  const { backend, teacher, workFolder, signal, onProgress } = options;
  const { captions, name = "pairs", steps = pairSteps, seed = options.seed } = sampling;
  const context = await encodePrompts(backend, teacher, captions);
  let sampler: Awaited<ReturnType<typeof teacherSampler<D>>> | undefined;
  const { noise, target } = await cachedRows({
    folder: join(workFolder, name),
    key: `seed ${seed}, ${steps} steps, guidance ${guidanceScale}`,
    count: captions.length,
    pieceSize: pairBatch,
    async compute(first, count) {
      sampler ??= await teacherSampler(backend, teacher, { steps, batch: pairBatch, seed });
      const rows = Array.from({ length: pairBatch }, (_, i) => Math.min(first + i, captions.length - 1));
      const sampled = await sampler.sample(takeRows(context, rows), first, signal);
      return { noise: firstRows(sampled.noise, count), target: firstRows(sampled.target, count) };
    },
    ...(signal && { signal }),
    onProgress: (done, total) => onProgress?.(name, { step: done, steps: total, metrics: {} }),
  });
  await sampler?.dispose();
  return { noise, target, context };
}

/** Elements of one latent. */
const sampleSize = 4 * latentSize * latentSize;

const randomTimesteps = (batch: number, stream: Random): HostTensor =>
  HostTensor.from([batch], Array.from(stream.at("timesteps").integers([batch], 0, schedule.trainSteps).data));

/** Random ones of these latents, their rows, and the noise and the timestep that make each noisy. */
export function noisedBatch(latents: HostTensor, batch: number, stream: Random) {
  const rows = stream.at("rows").integers([batch], 0, rowCount(latents)).data;
  return {
    rows,
    latents: takeRows(latents, rows),
    noise: stream.at("noise").normal(latentSpec(batch).shape),
    timestep: randomTimesteps(batch, stream),
  };
}

/** Latents under noise, at a random timestep each. */
export function noisySamples(clean: HostTensor, stream: Random) {
  const timestep = randomTimesteps(rowCount(clean), stream);
  const sample = stream.at("noise").normal(clean.shape);
  timestep.data.forEach((t, row) => {
    const { alpha, sigma } = noiseLevelAt(schedule, t);
    for (let i = row * sampleSize; i < (row + 1) * sampleSize; i++) {
      sample.data[i] = alpha * (clean.data[i] ?? 0) + sigma * (sample.data[i] ?? 0);
    }
  });
  return { sample, timestep };
}

/** A warm-up under a name of its own, which is its folder's. */
export interface WarmupVariant {
  readonly name: string;
  /** Of the terms between the student's sample and the teacher's. Default `warmupWeights`. */
  readonly weights?: FeatureMatchingWarmupOptions["weights"];
  /** What the features are, and its weights. Default: those of the teacher's encoder. */
  readonly features?: { readonly extractor: FeatureExtractor; readonly params: HostParams };
}

/** Chosen: a little L1 holds the latents' levels, to which SSIM is blind where a map is flat. */
const warmupWeights = { features: 1, l1: 0.5 };

/** The one-step student by feature matching alone, Section 3.2. */
export async function warmUp<D>(
  options: DistillationOptions<D>,
  pairs: Pairs,
  tiny: HostParams,
  { name, weights = warmupWeights, features }: WarmupVariant = { name: "one-step student" },
): Promise<HostParams> {
  const { teacher, seed, budget } = options;
  const { extractor, params } = features ?? {
    extractor: encoderFeatures(teacher.unet.config),
    params: teacher.unet.params,
  };
  const { config } = studentPlan(teacher);
  const trained = await runStage(options, name, {
    program: featureMatchingWarmup({
      student: studentModel(config),
      features: extractor,
      weights,
    }),
    params: prefixed(tiny, "student."),
    frozen: prefixed(params, "teacher."),
    inputs: {
      noise: latentSpec(warmupBatch),
      target: latentSpec(warmupBatch),
      context: { shape: [warmupBatch, ...pairs.context.shape.slice(1)] },
      featureTimestep: { shape: [warmupBatch] },
    },
    batch: (step) => ({
      ...takePairs(pairs, random(seed, "one-step student", step), warmupBatch),
      featureTimestep: HostTensor.filled([warmupBatch], 0),
    }),
    batchSize: warmupBatch,
    optimizer: { weightDecay: 0, clipNorm: 1, emaDecay: 0.99 },
    learningRate: annealed(5e-4, budget.warmupSteps, 2e-5),
    steps: budget.warmupSteps,
  });
  return select(trained, "student.");
}

/** A score distillation under a name of its own, which is its folder's. */
export interface ScoreVariant {
  readonly name: string;
  readonly alpha: Schedule;
  readonly lambdaFM: Schedule;
}

/** Algorithm 1: segmented score distillation of the warmed-up student. The online DM begins as the teacher. */
export async function distilScores<D>(
  options: DistillationOptions<D>,
  pairs: Pairs,
  warm: HostParams,
  variant: Partial<ScoreVariant> = {},
): Promise<HostParams> {
  const { teacher, seed, budget } = options;
  const steps = budget.scoreSteps;
  // Chosen: the paper publishes no values, only that both begin high and are lowered.
  const {
    name = "score distillation",
    alpha = cosineSchedule({ rate: 0.98, totalSteps: steps, finalRate: 0.7 }),
    lambdaFM = cosineSchedule({ rate: 1, totalSteps: steps, finalRate: 0.2 }),
  } = variant;
  const batchOf = (purpose: string, update: number) => takePairs(pairs, random(seed, purpose, update), scoreBatch);
  const task = await segmentedScoreDistillationTask({
    ...(await scoreDistillationSetting(options, warm, steps)),
    name,
    seed: `score distillation ${seed}`,
    features: encoderFeatures(teacher.unet.config),
    pairs: (update) => batchOf("score distillation", update),
    contexts: (update) => batchOf("online", update).context,
    alpha,
    lambdaFM,
  });
  return runTask(options, task, () => task.weights("student", { averaged: true }));
}

/** What every distillation by scores is given here: the models, guidance, batches, and how both learn. */
export async function scoreDistillationSetting<D>(
  { backend, teacher }: StageOptions<D>,
  student: HostParams,
  steps: number,
) {
  const network = scoreFunction(teacher.unet.config);
  const { shape, data } = await encodePrompts(backend, teacher, [""]);
  const contextShape = shape.slice(1);
  return {
    backend,
    steps,
    sampleShape: latentSpec(1).shape.slice(1),
    contextShape,
    batchSize: scoreBatch,
    student: studentModel(studentPlan(teacher).config),
    onlineScore: network,
    offlineScore: network,
    prediction: predictionType,
    schedule,
    guidance: { scale: guidanceScale, unconditional: new HostTensor(contextShape, data) },
    params: { student, online: teacher.unet.params, teacher: teacher.unet.params },
    optimisation: {
      student: {
        optimizer: { weightDecay: 0, clipNorm: 1, emaDecay: 0.99 },
        learningRate: annealed(1e-4, steps, 2e-5),
      },
      online: { optimizer: { weightDecay: 0, clipNorm: 1 }, learningRate: annealed(1e-4, steps, 5e-5) },
    },
  };
}

/** Random rows of the pairs. */
export function takePairs({ noise, target, context }: Pairs, stream: Random, count: number): Pairs {
  const rows = stream.integers([count], 0, rowCount(target)).data;
  return { noise: takeRows(noise, rows), target: takeRows(target, rows), context: takeRows(context, rows) };
}

/** The maps that feature matching compares: those of the U-Net's encoder half. */
export const encoderFeatures =
  (config: UNetConfig): FeatureExtractor =>
  (ops, p, { context, ...inputs }) => {
    const { convIn, downBlocks } = unetEncoder(ops, p, config, { ...inputs, encoderHiddenStates: context });
    return [convIn, ...downBlocks];
  };

/** A U-Net as what the trainers plug in. */
export const scoreFunction =
  (config: UNetConfig): ScoreFunction =>
  (ops, p, { context, ...inputs }) =>
    unet(ops, p, config, { ...inputs, encoderHiddenStates: context }).sample;

/** x_theta, one evaluation of the tiny U-Net. */
export const studentModel = (config: UNetConfig): Generator =>
  oneStepGenerator(scoreFunction(config), oneStepConversion(schedule, { prediction: predictionType }));

/** Noise and context to the student's latents in one evaluation of its U-Net. */
export function studentGenerator(config: UNetConfig): Program<"noise" | "context", "latents"> {
  return (ops, params, inputs) => ({ latents: studentModel(config)(ops, scope(ops, params), inputs) });
}
