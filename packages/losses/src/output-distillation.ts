import type { Ops } from "@sdxs/tensor";
import { checkSameShape, meanPerSample } from "./per-sample.js";

/**
 * Output knowledge distillation, Equation 6 of the SDXS paper (https://arxiv.org/abs/2403.16627):
 *
 *     L_OKD = || s_student(x_t, t) - s_teacher(x_t, t) ||_2^2
 *
 * as a mean over elements. No gradient flows into the teacher's output.
 *
 * @param studentOutput the student's prediction [batch, ...]
 * @param teacherOutput the teacher's for the same input, same shape
 * @returns [batch]
 *
 * Throws `ShapeError` where the shapes differ.
 *
 * @example
 * const loss = ops.mean(outputDistillationLoss(ops, student.output, teacher.output));
 */
export function outputDistillationLoss<T>(ops: Ops<T>, studentOutput: T, teacherOutput: T): T {
  checkSameShape(ops, "outputDistillationLoss", studentOutput, teacherOutput);
  return meanPerSample(ops, ops.square(ops.sub(studentOutput, ops.stopGradient(teacherOutput))));
}
