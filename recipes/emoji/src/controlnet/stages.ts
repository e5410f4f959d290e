import {
  controlNet,
  controlNetDistillation,
  controlNetFromUNet,
  controlNetParameters,
  type ControlNetConfig,
} from "@sdxs/controlnet";
import { oneStepConversion } from "@sdxs/diffusion";
import {
  controlNetScoreDistillationTask,
  controlNetWarmupTask,
  oneStepGenerator,
  type ScoreFunction,
} from "@sdxs/one-step-trainer";
import {
  HostTensor,
  cosineSchedule,
  initialize,
  prefixed,
  random,
  scope,
  select,
  specsOf,
  type HostParams,
  type Program,
  type Random,
} from "@sdxs/tensor";
import { copyParameters, unet, type UNetConfig } from "@sdxs/tiny-unet";
import { takeRows } from "@sdxs/training";
import { mapBatches, rowCount } from "../../../rows.js";
import type { EmojiDataset } from "../dataset.js";
import {
  encodePrompts,
  encoderFeatures,
  guidanceScale,
  noisedBatch,
  noisySamples,
  studentPlan,
  type Pairs,
} from "../distil.js";
import { decodeLarge } from "../decode.js";
import { imageEncoder, latentDenoisingLoss, predictionType, schedule } from "../../../diffusion-model.js";
import { imageSize } from "../models.js";

import { latentSpec } from "../networks.js";
import { annealed, runTask } from "../../../run-task.js";
import { conditions, type ConditionKind } from "./conditions.js";
import { runStage, type StageOptions } from "../stage.js";

/** How much of everything the training of one ControlNet does. */
export interface ControlNetBudget {
  /** Pictures of the set that the teacher's ControlNet learns from. */
  readonly pictures: number;
  /** Samples of the teacher with its ControlNet that the student's learns from. */
  readonly triplets: number;
  /** Updates of the teacher's ControlNet. */
  readonly steps: number;
  readonly distillationSteps: number;
  readonly warmupSteps: number;
  readonly scoreSteps: number;
}

/** A ControlNet and what it was trained for. */
export interface TrainedControlNet {
  readonly config: ControlNetConfig;
  readonly params: HostParams;
}

/** Noise, the teacher's samples of it, prompts, and conditions extracted from these samples. */
export interface Triplets extends Pairs {
  readonly condition: HostTensor;
}

/** Chosen: for the same time, more steps of fewer pictures. */
const batchSize = 8;
const conditionShape = [3, imageSize, imageSize];
/** Images of four times the latents' size: three numbers, of which two halve. Chosen: enough for lines and shades. */
const embeddingChannels = [16, 32, 64];
/** Share of empty prompts, so that the condition has to be understood without: ControlNet paper, Section 3.3. */
const emptyPromptRate = 0.5;

/** What a ControlNet's functions take: conditions are there. */
export const controlled =
  (unetConfig: UNetConfig, config: ControlNetConfig): ScoreFunction =>
  (ops, p, { context, condition, ...inputs }) => {
    const given = { ...inputs, encoderHiddenStates: context };
    const controlResiduals = controlNet(ops, p.at("controlnet"), config, { ...given, condition: condition! });
    return unet(ops, p.at("unet"), unetConfig, { ...given, controlResiduals }).sample;
  };

/** Both ControlNets of one condition: where they begin. */
export function controlNetPlans({ teacher }: Pick<StageOptions<unknown>, "teacher">) {
  const options = { conditioning_embedding_out_channels: embeddingChannels };
  return {
    teacher: controlNetFromUNet(teacher.unet.config, options),
    student: controlNetFromUNet(studentPlan(teacher).config, options),
  };
}

/** The teacher's own ControlNet, from a copy of its encoder, on pictures of the set and their conditions (Equation 1). */
export async function trainTeacherControlNet<D>(
  options: StageOptions<D>,
  dataset: EmojiDataset,
  kind: ConditionKind,
  { pictures, steps }: Pick<ControlNetBudget, "pictures" | "steps">,
): Promise<TrainedControlNet> {
  const { backend, teacher, seed } = options;
  const { config, ...plan } = controlNetPlans(options).teacher;
  const { images, captions } = dataset.batch(seed, 0, pictures);
  const { autoencoder, unet: base } = teacher;
  const { latents } = await mapBatches(
    backend,
    imageEncoder(autoencoder.config),
    autoencoder.params,
    { images },
    batchSize,
  );
  const condition = conditions[kind](images);
  const context = await encodePrompts(backend, teacher, captions);
  const empty = await encodePrompts(backend, teacher, [""]);
  const network = controlled(base.config, config);
  const program: Program<"latents" | "noise" | "timestep" | "context" | "condition", "loss"> = (
    ops,
    params,
    inputs,
  ) => {
    const { latents, noise, timestep, ...conditioning } = inputs;
    const p = scope(ops, params);
    const loss = latentDenoisingLoss(ops, { latents, noise, timestep }, (sample) =>
      network(ops, p, { sample, timestep, ...conditioning }),
    );
    return { loss };
  };
  const batch = (step: number) => {
    const stream = random(seed, "teacher's ControlNet", step);
    const { rows, ...noised } = noisedBatch(latents, batchSize, stream);
    const prompts = takeRows(context, rows);
    const dropped = stream.at("empty prompts").uniform([batchSize]).data;
    dropped.forEach((value, row) => {
      if (value < emptyPromptRate) prompts.data.set(empty.data, row * empty.data.length);
    });
    return {
      ...noised,
      context: prompts,
      condition: takeRows(condition, rows),
    };
  };
  const trained = await runStage(options, `teacher's ControlNet, ${kind}`, {
    program,
    params: prefixed(
      { ...initialize(controlNetParameters(config), seed), ...copyParameters(plan, base.params) },
      "controlnet.",
    ),
    frozen: prefixed(base.params, "unet."),
    inputs: specsOf(batch(0)),
    batch,
    batchSize,
    optimizer: { weightDecay: 0, clipNorm: 1, emaDecay: 0.99 },
    learningRate: annealed(1e-3, steps, 5e-5), // chosen: hundreds of steps, so far more than ControlNet's 1e-5
    steps,
  });
  return { config, params: select(trained, "controlnet.") };
}

/** Triplets: the pairs, with conditions of what the teacher's decoder makes of its samples. */
export async function addConditions<D>(
  { backend, teacher }: StageOptions<D>,
  pairs: Pairs,
  kind: ConditionKind,
): Promise<Triplets> {
  const images = await decodeLarge(backend, teacher.autoencoder, pairs.target, batchSize);
  return { ...pairs, condition: conditions[kind](images) };
}

function takeTriplets({ noise, target, context, condition }: Triplets, stream: Random): Triplets {
  const rows = stream.integers([batchSize], 0, rowCount(target)).data;
  const take = (tensor: HostTensor): HostTensor => takeRows(tensor, rows);
  return { noise: take(noise), target: take(target), context: take(context), condition: take(condition) };
}

/** The tiny U-Net's ControlNet, by the U-Nets' outputs and their decoders' features (Section 3.1). */
export async function distilControlNet<D>(
  options: StageOptions<D>,
  triplets: Triplets,
  tiny: HostParams,
  original: TrainedControlNet,
  kind: ConditionKind,
  steps: number,
): Promise<TrainedControlNet> {
  const { teacher, seed } = options;
  const plan = studentPlan(teacher);
  const { config, ...copies } = controlNetPlans(options).student;
  const batch = (step: number) => {
    const stream = random(seed, "tiny ControlNet", step);
    const { target, context, condition } = takeTriplets(triplets, stream.at("rows"));
    return { ...noisySamples(target, stream), encoderHiddenStates: context, condition };
  };
  const trained = await runStage(options, `tiny ControlNet, ${kind}`, {
    program: controlNetDistillation({
      teacher: { unet: teacher.unet.config, controlNet: original.config },
      plan,
      controlNet: config,
      featureWeight: 0.1, // as that of the tiny U-Net
    }),
    // Chosen: it begins with what the teacher's has learned, where the shapes are the same.
    params: prefixed(
      {
        ...initialize(controlNetParameters(config), seed),
        ...copyParameters(copies, tiny),
        ...sameShapes(controlNetParameters(config), original.params),
      },
      "controlnet.",
    ),
    frozen: {
      ...prefixed(tiny, "student."),
      ...prefixed(teacher.unet.params, "teacher.unet."),
      ...prefixed(original.params, "teacher.controlnet."),
    },
    inputs: specsOf(batch(0)),
    batch,
    batchSize,
    optimizer: { weightDecay: 0, clipNorm: 1, emaDecay: 0.98 },
    learningRate: annealed(5e-4, steps, 1e-4),
    steps,
  });
  return { config, params: select(trained, "controlnet.") };
}

/** Of other parameters, those of the declared names and shapes. */
function sameShapes(
  declared: Readonly<Record<string, { readonly shape: readonly number[] }>>,
  params: HostParams,
): HostParams {
  return Object.fromEntries(
    Object.entries(params).filter(([name, { shape }]) => declared[name]?.shape.join() === shape.join()),
  );
}

/** One-step training of the tiny ControlNet beside the fixed student: warm-up, then scores (Section 3.2). */
export async function trainOneStepControlNet<D>(
  options: StageOptions<D>,
  triplets: Triplets,
  student: HostParams,
  original: TrainedControlNet,
  tiny: TrainedControlNet,
  training: {
    readonly name: string;
    readonly noiseRedrawShare: number;
    readonly budget: Pick<ControlNetBudget, "warmupSteps" | "scoreSteps">;
  },
): Promise<TrainedControlNet> {
  const { backend, teacher, seed } = options;
  const { name, noiseRedrawShare, budget } = training;
  const contextShape = triplets.context.shape.slice(1);
  const encoder = encoderFeatures(teacher.unet.config);
  const setting = {
    backend,
    batchSize,
    sampleShape: latentSpec(1).shape.slice(1),
    contextShape,
    conditionShape,
    noiseRedrawShare,
    student: oneStepGenerator(
      controlled(studentPlan(teacher).config, tiny.config),
      oneStepConversion(schedule, { prediction: predictionType }),
    ),
    features: ((ops, p, inputs) => encoder(ops, p.at("unet"), inputs)) satisfies typeof encoder,
  };
  const controlledTeacher = { unet: teacher.unet.params, controlNet: original.params };
  const drawn = (purpose: string, update: number) => takeTriplets(triplets, random(seed, purpose, update));
  const optimizer = { weightDecay: 0, clipNorm: 1, emaDecay: 0.98 };

  const warmup = await controlNetWarmupTask({
    ...setting,
    name: `warm-up, ${name}`,
    seed: `ControlNet warm-up ${seed}`,
    steps: budget.warmupSteps,
    weights: { features: 1, l1: 0.5 }, // as the student's own
    params: { student: { unet: student, controlNet: tiny.params }, teacher: controlledTeacher },
    triplets: (update) => drawn("ControlNet warm-up", update),
    optimizer,
    learningRate: annealed(5e-4, budget.warmupSteps, 5e-5),
  });
  const warm = await runTask(options, warmup, () => warmup.controlNet({ averaged: true }));
  if (budget.scoreSteps === 0) return { config: tiny.config, params: warm };

  const network = controlled(teacher.unet.config, original.config);
  const { shape, data } = await encodePrompts(backend, teacher, [""]);
  const totalSteps = budget.scoreSteps;
  const scores = await controlNetScoreDistillationTask({
    ...setting,
    name: `scores, ${name}`,
    seed: `ControlNet scores ${seed}`,
    steps: totalSteps,
    onlineScore: network,
    offlineScore: network,
    prediction: predictionType,
    schedule,
    guidance: { scale: guidanceScale, unconditional: new HostTensor(shape.slice(1), data) },
    params: { student: { unet: student, controlNet: warm }, teacher: controlledTeacher },
    triplets: (update) => drawn("ControlNet scores", update),
    contexts: (update) => drawn("online ControlNet", update).context,
    conditions: (update) => drawn("online ControlNet", update).condition,
    alpha: cosineSchedule({ rate: 0.98, totalSteps, finalRate: 0.7 }),
    lambdaFM: cosineSchedule({ rate: 1, totalSteps, finalRate: 0.5 }),
    optimisation: {
      student: { optimizer, learningRate: annealed(1e-4, totalSteps, 2e-5) },
      online: { optimizer: { weightDecay: 0, clipNorm: 1 }, learningRate: annealed(1e-4, totalSteps, 5e-5) },
    },
  });
  const params = await runTask(options, scores, () => scores.controlNet({ averaged: true }));
  return { config: tiny.config, params };
}
