import { HostTensor, prefixed, random, select, type HostParams, type Shape } from "@sdxs/tensor";
import { gradientTask, type GradientTask } from "@sdxs/training";
import {
  featureMatchingWarmup,
  type FeatureMatchingWarmupOptions,
} from "../feature-matching-warmup/feature-matching-warmup.js";
import { redrawNoise } from "../shared/redraw-noise.js";
import type { ScoreDistillationTask } from "../shared/score-distillation-task.js";
import {
  segmentedScoreDistillationTask,
  type SegmentedScoreDistillationTaskOptions,
} from "../segmented-score-distillation/segmented-score-distillation-task.js";
import { batchSpecs, type Optimisation, type TaskOptions, type Triplet } from "../shared/task-options.js";

/** A U-Net and its ControlNet: their functions find them under "unet." and "controlnet.". */
export interface ControlledNetwork {
  readonly unet: HostParams;
  readonly controlNet: HostParams;
}

/** Options of both stages of a one-step ControlNet's training. */
export interface ControlNetTraining {
  readonly params: {
    /** The one-step U-Net, which is frozen, and its ControlNet's initial parameters, mostly from `controlNetDistillation`. */
    readonly student: ControlledNetwork;
    /** The multi-step U-Net and its ControlNet, both frozen, and all others under "teacher.". */
    readonly teacher: ControlledNetwork & { readonly others?: HostParams };
  };
  /** Shape of one condition [channels, height, width]. */
  readonly conditionShape: Shape;
  /** The student's micro-batch, see `controlTriplets`. Must be the same for the same indices, each time. */
  readonly triplets: (update: number, microBatch: number) => Triplet | Promise<Triplet>;
  /**
   * Probability that a value of the student's noise is resampled, see `redrawNoise`: the more, the closer the student
   * follows the condition, and the less it repeats the teacher's sample. Default 0.5 (chosen: the paper publishes none).
   */
  readonly noiseRedrawShare?: number;
}

/** The ControlNet of a training: its current parameters, or their moving average. */
interface TrainsControlNet {
  controlNet(options?: { readonly averaged?: boolean }): Promise<HostParams>;
}

export interface ControlNetWarmupTaskOptions<D>
  extends ControlNetTraining, FeatureMatchingWarmupOptions, TaskOptions<D>, Optimisation {
  /** Timestep input of the feature encoder. Default 0: samples are clean. */
  readonly featureTimestep?: number;
}

/**
 * The first stage of training a one-step model's ControlNet (SDXS paper, Section 3.2): the feature-matching warm-up on
 * triplets of noise, target and condition, with the student's U-Net fixed.
 *
 * The student's function finds its U-Net under "unet." and its ControlNet under "controlnet."; the features' function finds
 * the teacher's U-Net likewise. Metrics: those of `featureMatchingWarmup`.
 *
 * @throws InvalidArgumentError where an option is out of range, ShapeError where a condition does not fit.
 *
 * @example
 * const network: ScoreFunction = (ops, p, { context, condition, ...inputs }) => {
 *   const given = { ...inputs, encoderHiddenStates: context };
 *   const residuals = controlNet(ops, p.at("controlnet"), controlNetConfig, { ...given, condition: condition! });
 *   return unet(ops, p.at("unet"), unetConfig, { ...given, controlResiduals: residuals }).sample;
 * };
 * const task = await controlNetWarmupTask({
 *   name: "warm-up", backend, seed: 1, steps: 500, batchSize: 16, sampleShape: [4, 16, 16], contextShape: [20, 128],
 *   conditionShape: [3, 64, 64], student: oneStepGenerator(network, conversion), features, params, triplets,
 *   optimizer: {}, learningRate: constantSchedule(1e-4),
 * });
 */
export async function controlNetWarmupTask<D>(
  options: ControlNetWarmupTaskOptions<D>,
): Promise<GradientTask & TrainsControlNet> {
  const { params, batchSize, conditionShape, featureTimestep = 0 } = options;
  const { sample, context, perSample } = batchSpecs(options);
  const triplets = redrawnTriplets(options);
  const task = await gradientTask({
    ...options,
    program: featureMatchingWarmup(options),
    params: prefixed(params.student.controlNet, "student.controlnet."),
    frozen: {
      ...prefixed(params.student.unet, "student.unet."),
      ...prefixed(teacherParams(params.teacher), "teacher."),
    },
    inputs: {
      noise: sample,
      target: sample,
      context,
      condition: { shape: [batchSize, ...conditionShape] },
      featureTimestep: perSample,
    },
    batch: async (update, microBatch) => ({
      ...(await triplets(update, microBatch)),
      featureTimestep: HostTensor.filled([batchSize], featureTimestep),
    }),
  });
  return { ...task, controlNet: async (which) => select(await task.weights(which), "student.controlnet.") };
}

export interface ControlNetScoreDistillationTaskOptions<D>
  extends
    ControlNetTraining,
    Omit<SegmentedScoreDistillationTaskOptions<D>, keyof ControlNetTraining | "pairs" | "conditions"> {
  /** Conditions [batch, ...conditionShape] to go with `contexts`, with which the online DM sees samples of fresh noise. */
  readonly conditions: (update: number, microBatch: number) => HostTensor | Promise<HostTensor>;
}

/**
 * The second stage: segmented score distillation of the ControlNet. The online DM begins as the teacher's U-Net; the
 * teacher's ControlNet belongs to the online and the offline DM and is not trained.
 *
 * The functions of student, online DM and offline DM find their U-Net under "unet." and their ControlNet under
 * "controlnet.". Metrics: those of `segmentedScoreDistillationTask`.
 *
 * @throws InvalidArgumentError where an option, or a schedule at some step, is out of range.
 *
 * @example
 * const task = await controlNetScoreDistillationTask({
 *   ...setting, name: "scores", steps: 300, student, features, onlineScore: network, offlineScore: network, schedule,
 *   params: { student: { unet, controlNet: warmedUp }, teacher }, triplets, contexts, conditions,
 *   alpha: cosineSchedule({ rate: 1, finalRate: 0.7, totalSteps: 300 }),
 *   lambdaFM: cosineSchedule({ rate: 1, finalRate: 0.2, totalSteps: 300 }),
 *   optimisation: { student: { optimizer, learningRate }, online: { optimizer, learningRate } },
 * });
 * await train(task, { checkpoints });
 * const controlNet = await task.controlNet({ averaged: true });
 */
export async function controlNetScoreDistillationTask<D>(
  options: ControlNetScoreDistillationTaskOptions<D>,
): Promise<ScoreDistillationTask & TrainsControlNet> {
  const { student, teacher } = options.params;
  const task = await segmentedScoreDistillationTask({
    ...options,
    params: {
      student: prefixed(student.controlNet, "controlnet."),
      online: prefixed(teacher.unet, "unet."),
      teacher: teacherParams(teacher),
      fixed: { student: prefixed(student.unet, "unet."), online: prefixed(teacher.controlNet, "controlnet.") },
    },
    pairs: redrawnTriplets(options),
  });
  return { ...task, controlNet: async (which) => select(await task.weights("student", which), "controlnet.") };
}

function teacherParams({ unet, controlNet, others }: ControlNetTraining["params"]["teacher"]): HostParams {
  return { ...others, ...prefixed(unet, "unet."), ...prefixed(controlNet, "controlnet.") };
}

/** Triplets with a share of the noise resampled. */
function redrawnTriplets({
  seed,
  triplets,
  noiseRedrawShare = 0.5,
}: Pick<ControlNetTraining, "triplets" | "noiseRedrawShare"> & { readonly seed: number | string }) {
  return async (update: number, microBatch: number): Promise<Triplet> => {
    const triplet = await triplets(update, microBatch);
    const stream = random(seed, "redrawn noise", update, microBatch);
    return { ...triplet, noise: redrawNoise(triplet.noise, noiseRedrawShare, stream) };
  };
}
