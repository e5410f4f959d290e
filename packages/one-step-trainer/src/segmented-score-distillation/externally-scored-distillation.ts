import { scope, zeros } from "@sdxs/tensor";
import { addNoise, gatherNoiseLevels } from "@sdxs/diffusion";
import type { ConditionableProgram } from "../shared/plug-ins.js";
import {
  segmentedScoreDistillation,
  type OnlineInput,
  type SegmentedScoreDistillation,
  type SegmentedScoreDistillationOptions,
  type StudentInput,
  type StudentOutput,
} from "./segmented-score-distillation.js";

/** The programs of Algorithm 1 with an offline DM in another runtime. */
export interface ExternallyScoredDistillation extends Pick<SegmentedScoreDistillation, "online"> {
  /** x_t of the student's samples [batch, channels, height, width], the input of the offline DM. */
  readonly noisySample: ConditionableProgram<OnlineInput, "noisySample">;
  /** That of `segmentedScoreDistillation`, with the offline DM's answer, guided, as the input `offlinePrediction`. */
  readonly student: ConditionableProgram<StudentInput | "offlinePrediction", StudentOutput>;
}

/**
 * `segmentedScoreDistillation` for an offline DM that is no function over `Ops`. The student's update has two phases:
 * `noisySample` gives x_t, the offline DM predicts from it in its runtime, and `student`, given the same inputs and that
 * prediction, gives the loss and its gradient. Both phases evaluate the student. `segmentedScoreDistillationTask` takes
 * an `ExternalScore` as its `offlineScore` and does all of this.
 *
 * Guidance is linear in the prediction, so it is the caller's: unconditional + scale (conditional - unconditional).
 *
 * Throws `ParameterError` with code SHAPE_MISMATCH where `offlinePrediction` is not shaped as `noise`, and as
 * `segmentedScoreDistillation`.
 *
 * @example
 * const { online, noisySample, student } = externallyScoredDistillation({ student, onlineScore, features, schedule });
 */
export function externallyScoredDistillation(
  options: Omit<SegmentedScoreDistillationOptions, "offlineScore" | "guidance">,
): ExternallyScoredDistillation {
  const { online, student } = segmentedScoreDistillation({
    ...options,
    offlineScore: (ops, teacher, { sample }) => teacher.param("offlinePrediction", ops.shape(sample), zeros),
  });
  return {
    online,
    noisySample(ops, params, { noise, scoreNoise, timestep, ...conditioning }) {
      const sample = options.student(ops, scope(ops, params, "student"), { noise, ...conditioning });
      return { noisySample: addNoise(ops, sample, scoreNoise, gatherNoiseLevels(ops, options.schedule, timestep)) };
    },
    student: (ops, params, { offlinePrediction, ...inputs }) =>
      student(ops, { ...params, "teacher.offlinePrediction": offlinePrediction }, inputs),
  };
}
