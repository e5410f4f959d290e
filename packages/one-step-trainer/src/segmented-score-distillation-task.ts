import {
  HostTensor,
  InvalidArgumentError,
  downloadAll,
  prefixed,
  random,
  specsOf,
  type AdamWOptions,
  type Backend,
  type HostParams,
  type Program,
  type Schedule,
  type Shape,
} from "@sdxs/tensor";
import { alternatingTask, type AlternatingTask, type NonFiniteGuard } from "@sdxs/training";
import {
  segmentedScoreDistillation,
  type SegmentedScoreDistillationOptions,
  type StudentInput,
} from "./segmented-score-distillation.js";

/** A noise, the teacher's sample of it, and the prompt's context, for each sample of a batch. */
export interface PairBatch {
  /** z [batch, ...sampleShape] */
  readonly noise: HostTensor;
  /** psi(x_phi(z)), of the same shape. */
  readonly target: HostTensor;
  /** [batch, ...contextShape] */
  readonly context: HostTensor;
}

interface Optimisation {
  readonly optimizer: AdamWOptions;
  /** Of the step's index. */
  readonly learningRate: Schedule;
}

export interface SegmentedScoreDistillationTaskOptions<D> extends SegmentedScoreDistillationOptions, NonFiniteGuard {
  readonly name: string;
  readonly backend: Backend<D>;
  /** Decides the noises and timesteps of the scores, and the noise that the online DM sees. */
  readonly seed: number | string;
  /** Updates of the student. */
  readonly steps: number;
  /** Shape of one sample [channels, height, width] and of one context [tokens, features]. */
  readonly sampleShape: Shape;
  readonly contextShape: Shape;
  /** Samples of one micro-batch. */
  readonly batchSize: number;
  /** Micro-batches whose gradients are averaged for one update, of both models. Default 1. */
  readonly microBatches?: number;
  /** The student after its warm-up, the online DM as it begins (the teacher's weights), and what is frozen. */
  readonly params: { readonly student: HostParams; readonly online: HostParams; readonly teacher: HostParams };
  /** A student's micro-batch. Must be the same for the same indices, each time. */
  readonly pairs: (update: number, microBatch: number) => PairBatch | Promise<PairBatch>;
  /** Contexts [batch, ...contextShape] for which the online DM sees samples of fresh noise. */
  readonly contexts: (update: number, microBatch: number) => HostTensor | Promise<HostTensor>;
  /** Updates of the online DM for each of the student. Default 1, Diff-Instruct's; DMD2 has 10. */
  readonly onlineUpdates?: number;
  /** Of the step's index: the share of the timesteps, from the clean end, where scores are compared. In (0, 1]. */
  readonly alpha: Schedule;
  /** Of the step's index: the weight of feature matching, at least 0. */
  readonly lambdaFM: Schedule;
  /** The lowest timestep at which scores are compared, as a share of all. Default 0.02, DMD's. */
  readonly minTimestep?: number;
  /** What the feature encoder is told. Default 0: samples are clean. */
  readonly featureTimestep?: number;
  readonly optimisation: { readonly student: Optimisation; readonly online: Optimisation };
}

export interface SegmentedScoreDistillationTask extends AlternatingTask<"online" | "student"> {
  /**
   * What there is to look at after `step` updates: the student's samples of that update's micro-batch 0, and what the
   * online and the offline DM predict from them under noise, each [batch, ...sampleShape]. Compiles a program of its own,
   * which is gone afterwards.
   */
  samples(step: number): Promise<Record<"sample" | "onlineSample" | "offlineSample", HostTensor>>;
}

/**
 * Algorithm 1 as a task for `train` of "@sdxs/training": in each step `onlineUpdates` updates of the online DM, then one
 * of the student, with alpha and lambda_FM as their schedules say. The paper begins with alpha near 1 and lambda_FM high,
 * and lowers both once the distributions overlap.
 *
 * Metrics: those of `segmentedScoreDistillation`'s programs behind "online." and "student."; see also
 * `distillationWarnings`. It holds both models' parameters with their optimisers' state, the teacher's in the student's
 * program, and, if features are the teacher's, no second copy of these.
 *
 * @throws InvalidArgumentError where an option, or a schedule at some step, is out of range.
 *
 * @example
 * const task = await segmentedScoreDistillationTask({
 *   name: "ssd", backend, seed: 1, steps: 2000, batchSize: 16, sampleShape: [4, 16, 16], contextShape: [20, 128],
 *   student, onlineScore, offlineScore, features, schedule, params, pairs, contexts,
 *   alpha: cosineSchedule({ rate: 1, finalRate: 0.5, totalSteps: 2000 }),
 *   lambdaFM: cosineSchedule({ rate: 1, finalRate: 0.1, totalSteps: 2000 }),
 *   optimisation: { student: { optimizer, learningRate }, online: { optimizer, learningRate } },
 * });
 * await train(task, { checkpoints });
 * const student = await task.weights("student", { averaged: true });
 */
export async function segmentedScoreDistillationTask<D>(
  options: SegmentedScoreDistillationTaskOptions<D>,
): Promise<SegmentedScoreDistillationTask> {
  const { name, backend, seed, steps, batchSize, microBatches = 1, onlineUpdates = 1, params, optimisation } = options;
  const { minTimestep = 0.02, featureTimestep = 0, schedule } = options;
  if (!(minTimestep >= 0 && minTimestep < 1)) {
    throw new InvalidArgumentError(
      `segmentedScoreDistillationTask: minTimestep must be in [0, 1), got ${minTimestep}.`,
    );
  }
  const programs = segmentedScoreDistillation(options);
  const sampleSpec = { shape: [batchSize, ...options.sampleShape] };
  const perSample = { shape: [batchSize] };
  const shared = {
    noise: sampleSpec,
    context: { shape: [batchSize, ...options.contextShape] },
    scoreNoise: sampleSpec,
    timestep: perSample,
  };
  const normal = (...purpose: (string | number)[]): HostTensor => random(seed, ...purpose).normal(sampleSpec.shape);
  const timesteps = (from: number, to: number, ...purpose: (string | number)[]): HostTensor => {
    const first = Math.round(from * schedule.trainSteps);
    const last = Math.max(first + 1, Math.round(to * schedule.trainSteps));
    return new HostTensor(
      [batchSize],
      Float32Array.from(random(seed, ...purpose).integers([batchSize], first, last).data),
    );
  };

  /** What the student's program is given. */
  const given = {
    frozen: prefixed(params.teacher, "teacher."),
    inputs: {
      ...shared,
      target: sampleSpec,
      featureTimestep: perSample,
      alpha: { shape: [] },
      lambdaFM: { shape: [] },
    },
    async batch(update: number, microBatch: number) {
      const alpha = inRange("alpha", options.alpha(update), update, (value) => value > minTimestep && value <= 1);
      const lambdaFM = inRange("lambdaFM", options.lambdaFM(update), update, (value) => value >= 0);
      return {
        ...(await options.pairs(update, microBatch)),
        scoreNoise: normal("score noise", update, microBatch),
        timestep: timesteps(minTimestep, alpha, "timesteps", update, microBatch),
        featureTimestep: HostTensor.filled([batchSize], featureTimestep),
        alpha: HostTensor.scalar(alpha),
        lambdaFM: HostTensor.scalar(lambdaFM),
      };
    },
  };

  const task = await alternatingTask({
    name,
    backend,
    steps,
    samplesPerStep: batchSize * microBatches,
    ...(options.onNonFinite && { onNonFinite: options.onNonFinite }),
    ...(options.maxConsecutiveSkips && { maxConsecutiveSkips: options.maxConsecutiveSkips }),
    learners: {
      online: {
        program: programs.online,
        params: params.online,
        inputs: shared,
        updates: onlineUpdates,
        microBatches,
        ...optimisation.online,
        async batch(update: number, microBatch: number) {
          return {
            noise: normal("online noise", update, microBatch),
            context: await options.contexts(update, microBatch),
            scoreNoise: normal("online score noise", update, microBatch),
            timestep: timesteps(0, 1, "online timesteps", update, microBatch),
          };
        },
      },
      student: { program: programs.student, params: params.student, ...given, microBatches, ...optimisation.student },
    },
  });
  return { ...task, samples };

  /** Compiles the student's program once more, with outputs to look at, and runs it on the parameters as they are. */
  async function samples(step: number) {
    const current: HostParams = {
      ...prefixed(await task.weights("student"), "student."),
      ...prefixed(await task.weights("online"), "online."),
    };
    const program: Program<StudentInput, "sample" | "onlineSample" | "offlineSample"> = (ops, all, inputs) => {
      const { sample, onlineSample, offlineSample } = programs.student(ops, all, inputs);
      return { sample, onlineSample, offlineSample };
    };
    const compiled = await backend.compile(program, {
      params: specsOf(current),
      frozen: given.frozen,
      inputs: given.inputs,
    });
    try {
      const outputs = await compiled.run(current, await given.batch(step, 0));
      const host = await downloadAll(backend, outputs);
      for (const tensor of Object.values(outputs)) backend.dispose(tensor);
      return host;
    } finally {
      await compiled.dispose();
    }
  }
}

function inRange(name: string, value: number, step: number, holds: (value: number) => boolean): number {
  if (holds(value)) return value;
  throw new InvalidArgumentError(
    `segmentedScoreDistillationTask: ${name} at step ${step} is ${value}, out of its range. Check its schedule.`,
  );
}
