import { scope } from "@sdxs/tensor";
import { checkPair, compareFeatures, type FeatureComparison } from "../shared/feature-comparison.js";
import type { ConditionableProgram, Generator } from "../shared/plug-ins.js";
import { differentiateBySample, gradientNorm, weightedLoss } from "../shared/sample-loss.js";
import { scoreGap, spread } from "../shared/sample-statistics.js";
import { onlineLoss, scoreDifference, type ScoreModels } from "../shared/score-difference.js";

export interface SegmentedScoreDistillationOptions extends ScoreModels, FeatureComparison {
  /** The one-step DM x_theta; its parameters are under "student.". */
  readonly student: Generator;
}

/** Inputs of the online DM's program. */
export type OnlineInput = "noise" | "context" | "scoreNoise" | "timestep";
/** Inputs of the student's program. */
export type StudentInput = OnlineInput | "target" | "featureTimestep" | "alpha" | "lambdaFM";

/** The two programs of Algorithm 1. */
export interface SegmentedScoreDistillation {
  readonly online: ConditionableProgram<OnlineInput, "loss">;
  readonly student: ConditionableProgram<StudentInput, StudentOutput>;
}

/** Outputs of the student's program. */
export type StudentOutput =
  | "loss"
  | "featureMatching"
  | "scoreGap"
  | "spread"
  | "scoreGradientNorm"
  | "featureGradientNorm"
  | "sample"
  | "onlineSample"
  | "offlineSample";

/**
 * Segmented score distillation, Algorithm 1 of the SDXS paper (https://arxiv.org/abs/2403.16627), as two programs that
 * are trained in turn; `segmentedScoreDistillationTask` does so.
 *
 * Grad(phi): the online DM learns to denoise the student's samples, Equation 1 on x_0 = x_theta(z).
 *
 * Grad(theta), Equations 11 and 12: the score difference at one t for each sample, which the caller samples from
 * [0, alpha T], times alpha, the share of that range; and lambda_FM times the gradient of Equation 10 in place of the
 * rest of the range.
 *
 * Inputs, all float32:
 * - `noise` z [batch, channels, height, width], `context` [batch, tokens, features];
 * - `condition` [batch, channels, height, width], an input of all three networks, if there is one;
 * - `scoreNoise`, shaped as `noise`, standard normal, and `timestep` [batch], whole numbers in [0, T): these make x_t;
 * - of the student alone: `target`, the teacher's sample of `noise`; `featureTimestep` [batch], the encoder's timestep input;
 *   `alpha` and `lambdaFM`, shape [].
 *
 * Outputs of the student's program:
 * - `loss`, lambda_FM L_FM + alpha |score gradient|^2 / 2, whose gradient is Grad(theta): its value alone says little;
 * - `featureMatching`, L_FM; `scoreGap`, the mean distance of the two predictions of x_0 relative to that of the sample
 *   from the offline one: near 0 where the student's distribution is the teacher's; `spread`, the standard deviation over
 *   the batch relative to the targets': near 0 where all samples have collapsed to one;
 * - `scoreGradientNorm` and `featureGradientNorm`, L2 norms by the sample before alpha and lambda_FM, means over the batch;
 * - `sample`, `onlineSample` and `offlineSample` for display, shaped as `noise`.
 *
 * Throws `ShapeError` where `target` or the empty prompt's context does not fit.
 *
 * @example
 * const { online, student } = segmentedScoreDistillation({
 *   student: oneStepGenerator(tinyNetwork, oneStepConversion(schedule)),
 *   onlineScore: network, offlineScore: network, features: encoder, schedule,
 *   guidance: { scale: 2, unconditional },
 * });
 */
export function segmentedScoreDistillation(options: SegmentedScoreDistillationOptions): SegmentedScoreDistillation {
  return {
    // Grad(phi)
    online(ops, params, { noise, scoreNoise, timestep, ...conditioning }) {
      const sample = options.student(ops, scope(ops, params, "student"), { noise, ...conditioning });
      const inputs = { scoreNoise, timestep, ...conditioning };
      return { loss: ops.mean(onlineLoss(ops, params, options, sample, inputs)) };
    },

    // Grad(theta)
    student(ops, params, { noise, target, featureTimestep, alpha, lambdaFM, scoreNoise, timestep, ...conditioning }) {
      checkPair(ops, "segmentedScoreDistillation", noise, target);
      const { context } = conditioning;
      const sample = options.student(ops, scope(ops, params, "student"), { noise, ...conditioning });

      // The segment [0, alpha T]: w(t) [s_phi(x_t, t) - s_p(x_t)] d x_t / d x_0
      const score = scoreDifference(ops, params, options, sample, { scoreNoise, timestep, ...conditioning });

      // The segment (alpha T, T]: d L_FM / d x_0
      const features = differentiateBySample(ops, sample, (x) =>
        compareFeatures(ops, params, options, { sample: x, target, context, featureTimestep }),
      );

      return {
        loss: weightedLoss(ops, sample, [
          [alpha, score],
          [lambdaFM, features],
        ]),
        featureMatching: features.value,
        scoreGap: scoreGap(ops, sample, score),
        spread: spread(ops, sample, target),
        scoreGradientNorm: gradientNorm(ops, score),
        featureGradientNorm: gradientNorm(ops, features),
        sample,
        onlineSample: score.onlineSample,
        offlineSample: score.offlineSample,
      };
    },
  };
}
