import {
  HostTensor,
  InvalidArgumentError,
  downloadAll,
  prefixed,
  specsOf,
  type Schedule,
  type Shape,
} from "@sdxs/tensor";
import { externallyScoredDistillation } from "./externally-scored-distillation.js";
import { guidedPrediction } from "../shared/guidance.js";
import type { ExternalScore, ScoreFunction } from "../shared/plug-ins.js";
import {
  scoreDistillationTask,
  scoreInputs,
  type ScoreDistillationTask,
  type ScoreDistillationTaskOptions,
} from "../shared/score-distillation-task.js";
import {
  segmentedScoreDistillation,
  type OnlineInput,
  type SegmentedScoreDistillationOptions,
  type StudentInput,
} from "./segmented-score-distillation.js";
import type { PairBatch, Triplet } from "../shared/task-options.js";

export interface SegmentedScoreDistillationTaskOptions<D>
  extends Omit<SegmentedScoreDistillationOptions, "offlineScore">, ScoreDistillationTaskOptions<D> {
  /** The offline DM s_p, frozen: a network whose parameters are under "teacher.", or one in another runtime. */
  readonly offlineScore: ScoreFunction | ExternalScore;
  readonly schedule: SegmentedScoreDistillationOptions["schedule"];
  /** Shape of one condition of all three networks [channels, height, width]. Default: no conditions. */
  readonly conditionShape?: Shape;
  /** A student's micro-batch, with conditions where there are any. Must be the same for the same indices, each time. */
  readonly pairs: (update: number, microBatch: number) => ConditionablePair | Promise<ConditionablePair>;
  /** Contexts [batch, ...contextShape] for which the online DM sees samples of fresh noise. */
  readonly contexts: (update: number, microBatch: number) => HostTensor | Promise<HostTensor>;
  /** Conditions [batch, ...conditionShape] to go with these contexts, where there are any. */
  readonly conditions?: (update: number, microBatch: number) => HostTensor | Promise<HostTensor>;
  /** Updates of the online DM for each of the student. Default 1, Diff-Instruct's; DMD2 has 10. */
  readonly onlineUpdates?: number;
  /** Of the step's index: the share of the timesteps, from the clean end, where scores are compared. In (0, 1]. */
  readonly alpha: Schedule;
  /** Of the step's index: the weight of feature matching, at least 0. */
  readonly lambdaFM: Schedule;
  /** Timestep input of the feature encoder. Default 0: samples are clean. */
  readonly featureTimestep?: number;
}

type ConditionablePair = PairBatch & Partial<Triplet>;

/**
 * Algorithm 1 as a task for `train` of "@sdxs/training": in each step `onlineUpdates` updates of the online DM, then one
 * of the student, with alpha and lambda_FM as their schedules say. The paper begins with alpha near 1 and lambda_FM high,
 * and lowers both once the distributions overlap.
 *
 * Metrics: those of `segmentedScoreDistillation`'s programs with "online." and "student." before their names; see also
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
): Promise<ScoreDistillationTask> {
  const { backend, offlineScore, guidance, ...unguided } = options;
  const { params, batchSize, conditionShape } = options;
  const where = "segmentedScoreDistillationTask";
  const inputs = scoreInputs(where, options);
  const shared = {
    ...inputs.shared,
    ...(conditionShape && { condition: { shape: [batchSize, ...conditionShape] } }),
  };
  const given = {
    online: {
      inputs: shared,
      batch: async (update: number, microBatch: number) => ({
        ...inputs.online(update, microBatch),
        context: await options.contexts(update, microBatch),
        ...(options.conditions && { condition: await options.conditions(update, microBatch) }),
      }),
    },
    student: {
      inputs: {
        ...shared,
        target: inputs.sample,
        featureTimestep: inputs.perSample,
        alpha: { shape: [] },
        lambdaFM: { shape: [] },
      },
      async batch(update: number, microBatch: number) {
        const lowest = inputs.minTimestep;
        const alpha = inRange("alpha", options.alpha(update), update, (value) => value > lowest && value <= 1);
        const lambdaFM = inRange("lambdaFM", options.lambdaFM(update), update, (value) => value >= 0);
        return {
          ...(await options.pairs(update, microBatch)),
          ...inputs.student(alpha, update, microBatch),
          featureTimestep: HostTensor.filled([batchSize], options.featureTimestep ?? 0),
          alpha: HostTensor.scalar(alpha),
          lambdaFM: HostTensor.scalar(lambdaFM),
        };
      },
    },
  };
  if (typeof offlineScore === "function") {
    const { online, student } = segmentedScoreDistillation({ ...options, offlineScore });
    return scoreDistillationTask<D, OnlineInput, StudentInput>(options, {
      online: { program: online, ...given.online },
      student: { program: student, ...given.student },
    });
  }

  // The offline DM predicts from x_t before each of the student's updates.
  const { online, student, noisySample } = externallyScoredDistillation(unguided);
  const asking = await backend.compile<OnlineInput, "noisySample">(noisySample, {
    params: specsOf(prefixed(params.student, "student.")),
    frozen: prefixed(params.fixed?.student ?? {}, "student."),
    inputs: shared,
  });
  const task: ScoreDistillationTask = await scoreDistillationTask<D, OnlineInput, StudentInput | "offlinePrediction">(
    options,
    {
      online: { program: online, ...given.online },
      student: {
        program: student,
        inputs: { ...given.student.inputs, offlinePrediction: inputs.sample },
        async batch(update, microBatch) {
          const batch = await given.student.batch(update, microBatch);
          const { noise, scoreNoise, timestep, context, condition } = batch;
          const conditioning = { context, ...(condition && { condition }) };
          const current = prefixed(await task.weights("student"), "student.");
          const outputs = await asking.run(current, { noise, scoreNoise, timestep, ...conditioning });
          const { noisySample: sample } = await downloadAll(backend, outputs);
          backend.dispose(outputs.noisySample);
          const asked = { sample, timestep, ...conditioning };
          return { ...batch, offlinePrediction: await guidedPrediction(where, offlineScore, guidance, asked) };
        },
      },
    },
  );
  return {
    ...task,
    async dispose() {
      await task.dispose();
      await asking.dispose();
    },
  };
}

function inRange(name: string, value: number, step: number, holds: (value: number) => boolean): number {
  if (holds(value)) return value;
  throw new InvalidArgumentError(
    `segmentedScoreDistillationTask: ${name} at step ${step} is ${value}, out of its range. Check its schedule.`,
  );
}
