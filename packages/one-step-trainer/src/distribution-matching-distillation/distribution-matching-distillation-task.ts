import { initialize, prefixed, type HostTensor } from "@sdxs/tensor";
import {
  distributionMatchingDistillation,
  type DistributionMatchingDistillationOptions,
} from "./distribution-matching-distillation.js";
import { featureDiscriminatorParameters } from "../shared/feature-discriminator.js";
import {
  scoreDistillationTask,
  scoreInputs,
  type ScoreDistillationTask,
  type ScoreDistillationTaskOptions,
} from "../shared/score-distillation-task.js";

/** Real samples and their contexts. */
export interface RealBatch {
  /** Clean latents of real or of the teacher's images [batch, ...sampleShape]. */
  readonly real: HostTensor;
  /** [batch, ...contextShape] */
  readonly context: HostTensor;
}

export interface DistributionMatchingDistillationTaskOptions<D>
  extends DistributionMatchingDistillationOptions, ScoreDistillationTaskOptions<D> {
  readonly schedule: DistributionMatchingDistillationOptions["schedule"];
  /** Contexts [batch, ...contextShape] of the student's micro-batch. Must be the same for the same indices, each time. */
  readonly contexts: (update: number, microBatch: number) => HostTensor | Promise<HostTensor>;
  /** An online DM's micro-batch: it sees these samples, and the student's for the same contexts. */
  readonly reals: (update: number, microBatch: number) => RealBatch | Promise<RealBatch>;
  /** Updates of the online DM for each of the student. Default 5, DMD2's for ImageNet and SDXL; it has 10 for SD 1.5. */
  readonly onlineUpdates?: number;
}

/** DMD's highest timestep at which scores are compared, as a share of all. */
const HIGHEST = 0.98;

/**
 * DMD2 as a task for `train` of "@sdxs/training": in each step `onlineUpdates` updates of the online DM with its classifier,
 * then one of the student.
 *
 * Metrics: those of `distributionMatchingDistillation`'s programs with "online." and "student." before their names; see also
 * `distillationWarnings`. The classifier begins from the seed; its parameters are among `weights("online")`, under
 * "classifier.".
 *
 * @throws InvalidArgumentError where an option is out of range.
 *
 * @example
 * const task = await distributionMatchingDistillationTask({
 *   name: "dmd2", backend, seed: 1, steps: 2000, batchSize: 16, sampleShape: [4, 16, 16], contextShape: [20, 128],
 *   student, onlineScore, offlineScore, features: bottleneck, schedule, params, contexts, reals,
 *   optimisation: { student: { optimizer, learningRate }, online: { optimizer, learningRate } },
 * });
 * await train(task, { checkpoints });
 * const student = await task.weights("student", { averaged: true });
 */
export async function distributionMatchingDistillationTask<D>(
  options: DistributionMatchingDistillationTaskOptions<D>,
): Promise<ScoreDistillationTask> {
  const { seed, params, onlineUpdates = 5 } = options;
  const { online, student } = distributionMatchingDistillation(options);
  const inputs = scoreInputs("distributionMatchingDistillationTask", options);
  const classifier = initialize(featureDiscriminatorParameters(options, options), `classifier ${seed}`);
  const withClassifier = {
    ...options,
    onlineUpdates,
    params: { ...params, online: { ...params.online, ...prefixed(classifier, "classifier.") } },
  };
  return scoreDistillationTask(withClassifier, {
    online: {
      program: online,
      inputs: { ...inputs.shared, real: inputs.sample, realNoise: inputs.sample },
      batch: async (update, microBatch) => ({
        ...inputs.online(update, microBatch),
        ...(await options.reals(update, microBatch)),
        realNoise: inputs.normal("real noise", update, microBatch),
      }),
    },
    student: {
      program: student,
      inputs: { ...inputs.shared, ganNoise: inputs.sample, ganTimestep: inputs.perSample },
      batch: async (update, microBatch) => ({
        noise: inputs.normal("noise", update, microBatch),
        context: await options.contexts(update, microBatch),
        ...inputs.student(HIGHEST, update, microBatch),
        ganNoise: inputs.normal("gan noise", update, microBatch),
        ganTimestep: inputs.timesteps(0, 1, "gan timesteps", update, microBatch),
      }),
    },
  });
}
