import type { Ops } from "@sdxs/tensor";
import { checkFeatureLists, weightedSum } from "./feature-lists.js";
import { meanPerSample } from "./per-sample.js";

export interface FeatureDistillationOptions {
  /** One per feature map. Default 1 each, as in the paper's Equation 7 and BK-SDM. */
  readonly weights?: readonly number[];
  /**
   * Divide each term by the mean square of the teacher's map, per sample, so that maps of every size count alike: a
   * student that gives zeros costs 1 per map. Default false, the paper's equation.
   */
  readonly balanced?: boolean;
}

/** Least mean square to divide by: maps of a smaller one count as zeros. Chosen: far below the scale of any feature. */
const LEAST_MEAN_SQUARE = 1e-12;

/**
 * Feature knowledge distillation, Equation 7 of the SDXS paper (https://arxiv.org/abs/2403.16627):
 *
 *     L_FKD = sum_l w_l || f_l_student(x_t, t) - f_l_teacher(x_t, t) ||_2^2
 *
 * each norm as a mean over elements. No gradient flows into the teacher's features. The features of a large U-Net are far
 * from unit scale, so this loss can dwarf the output's: lambda_F of Equation 8 and `balanced` are for that.
 *
 * @param studentFeatures maps [batch, ...]
 * @param teacherFeatures maps of the teacher at the same places, same shapes
 * @returns [batch]
 *
 * Throws `ShapeError` where lists or shapes differ.
 *
 * @example
 * const loss = ops.mean(featureDistillationLoss(ops, student.features, teacher.features));
 */
export function featureDistillationLoss<T>(
  ops: Ops<T>,
  studentFeatures: readonly T[],
  teacherFeatures: readonly T[],
  options: FeatureDistillationOptions = {},
): T {
  checkFeatureLists(ops, "featureDistillationLoss", studentFeatures, teacherFeatures, options.weights);
  const weights = options.weights ?? studentFeatures.map(() => 1);
  const terms = studentFeatures.map((map, l) => {
    const target = ops.stopGradient(teacherFeatures[l]!);
    const error = meanPerSample(ops, ops.square(ops.sub(map, target)));
    if (!options.balanced) return error;
    return ops.div(error, ops.maximum(meanPerSample(ops, ops.square(target)), LEAST_MEAN_SQUARE));
  });
  return weightedSum(ops, terms, weights);
}
