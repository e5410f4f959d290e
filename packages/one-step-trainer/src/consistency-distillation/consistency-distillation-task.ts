import { HostTensor, InvalidArgumentError, prefixed, random, select, type HostParams } from "@sdxs/tensor";
import { gradientTask, type GradientTask } from "@sdxs/training";
import { consistencyDistillation, type ConsistencyDistillationOptions } from "./consistency-distillation.js";
import { batchSpecs, type Optimisation, type TaskOptions } from "../shared/task-options.js";

export interface ConsistencyDistillationTaskOptions<D>
  extends ConsistencyDistillationOptions, TaskOptions<D>, Optimisation {
  /** The student's initial parameters, mostly the teacher's, and the frozen ones. */
  readonly params: { readonly student: HostParams; readonly teacher: HostParams };
  /** Clean samples [batch, ...sampleShape] and their contexts. Must be the same for the same indices, each time. */
  readonly samples: (update: number, microBatch: number) => ConsistencySamples | Promise<ConsistencySamples>;
  /** Lowest and highest guidance scale, sampled uniformly for each sample; equal for one. Default [1, 1]. LCM's: [3, 15]. */
  readonly guidanceScales?: readonly [lowest: number, highest: number];
  /** With `target: "average"` it needs an `emaDecay`; LCM's is 0.95. */
  readonly optimizer: Optimisation["optimizer"];
}

export interface ConsistencySamples {
  readonly clean: HostTensor;
  readonly context: HostTensor;
}

/**
 * `consistencyDistillation` as a task for `train` of "@sdxs/training": samples noises, timesteps and guidance scales, and has
 * the moving average follow where it is the target. The result samples in few steps by `lcm` of "@sdxs/diffusion", and
 * begins the feature-matching warm-up.
 *
 * `weights` gives the student's under their own names.
 *
 * @throws InvalidArgumentError where an option is out of range.
 *
 * @example
 * const task = await consistencyDistillationTask({
 *   name: "straighten", backend, seed: 1, steps: 1000, batchSize: 16, sampleShape: [4, 16, 16], contextShape: [20, 128],
 *   student: network, teacher: network, schedule, unconditional, guidanceScales: [2, 2],
 *   params: { student: tiny, teacher: tiny }, samples,
 *   optimizer: { emaDecay: 0.95 }, learningRate: constantSchedule(1e-4),
 * });
 * await train(task, { checkpoints });
 * const straightened = await task.weights({ averaged: true });
 */
export async function consistencyDistillationTask<D>(
  options: ConsistencyDistillationTaskOptions<D>,
): Promise<GradientTask> {
  const { seed, batchSize, params, samples, schedule, skippedTimesteps = 20, target = "student" } = options;
  const { guidanceScales: [lowest, highest] = [1, 1] } = options;
  const program = consistencyDistillation(options);
  const timesteps = Math.floor(schedule.trainSteps / skippedTimesteps);
  if (timesteps < 1) {
    throw new InvalidArgumentError(
      `consistencyDistillationTask: skippedTimesteps must be at most ${schedule.trainSteps}, got ${skippedTimesteps}.`,
    );
  }
  if (!(lowest <= highest && Number.isFinite(highest - lowest))) {
    throw new InvalidArgumentError(
      `consistencyDistillationTask: guidanceScales must be [lowest, highest], got [${lowest}, ${highest}].`,
    );
  }
  const { sample, context, perSample } = batchSpecs(options);
  const task = await gradientTask({
    ...options,
    program,
    params: prefixed(params.student, "student."),
    frozen: prefixed(params.teacher, "teacher."),
    ...(target === "average" && { averageAs: "target." }),
    inputs: {
      clean: sample,
      noise: sample,
      timestep: perSample,
      context,
      guidanceScale: perSample,
    },
    async batch(update, microBatch) {
      const given = await samples(update, microBatch);
      const stream = random(seed, "consistency distillation", update, microBatch);
      const indices = stream.at("timesteps").integers([batchSize], 1, timesteps + 1).data;
      const shares = stream.at("guidance").uniform([batchSize]).data;
      return {
        clean: given.clean,
        context: given.context,
        noise: stream.at("noise").normal(sample.shape),
        timestep: HostTensor.from(
          [batchSize],
          Array.from(indices, (index) => index * skippedTimesteps - 1),
        ),
        guidanceScale: HostTensor.from(
          [batchSize],
          Array.from(shares, (share) => lowest + share * (highest - lowest)),
        ),
      };
    },
  });
  return { ...task, weights: async (which) => select(await task.weights(which), "student.") };
}
