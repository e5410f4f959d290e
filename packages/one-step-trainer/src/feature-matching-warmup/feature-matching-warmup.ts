import { InvalidArgumentError, scope } from "@sdxs/tensor";
import { l1, mse } from "@sdxs/losses";
import { checkPair, compareFeatures, type FeatureComparison } from "../shared/feature-comparison.js";
import type { ConditionableProgram, Generator } from "../shared/plug-ins.js";

export interface FeatureMatchingWarmupOptions extends FeatureComparison {
  /** The one-step model x_theta in training; its parameters are under "student.". */
  readonly student: Generator;
  /** Weight of each term. Default: L_FM alone. */
  readonly weights?: {
    /** Of the feature loss. Default 1. At 0 no features are computed. */
    readonly features?: number;
    /** Of the mean absolute error between the samples themselves. Default 0. */
    readonly l1?: number;
    /** Of their mean squared error, which blurs: see Equation 9. Default 0. */
    readonly mse?: number;
  };
}

/**
 * The feature-matching warm-up of Section 3.2 of the SDXS paper (https://arxiv.org/abs/2403.16627): trains a one-step
 * student on pairs of noise and the teacher's image of it, under Equation 10.
 *
 * Inputs, all float32:
 * - `noise` [batch, channels, height, width]: epsilon, standard normal;
 * - `target`, shaped as `noise`: psi(x_phi(epsilon)), the teacher's sample of the same noise (see `noiseImagePairs`);
 * - `context` [batch, tokens, features]: text embeddings;
 * - `condition` [batch, channels, height, width]: an image that guides the student, where there is one;
 * - `featureTimestep` [batch]: the encoder's timestep input. Samples are clean, so a low one.
 *
 * Outputs: `loss`, the batch's mean; `perSample` [batch]; `sample`, the student's, shaped as `noise`.
 *
 * Throws `ShapeError` where `noise` and `target` differ, `InvalidArgumentError` where every weight is 0.
 *
 * @example
 * const program = featureMatchingWarmup({
 *   student: oneStepGenerator(
 *     (ops, p, { context, ...inputs }) => unet(ops, p, config, { ...inputs, encoderHiddenStates: context }).sample,
 *     oneStepConversion(noiseSchedule()),
 *   ),
 *   features: (ops, p, { context, ...inputs }) =>
 *     unetEncoder(ops, p, teacher, { ...inputs, encoderHiddenStates: context }).downBlocks,
 * });
 */
export function featureMatchingWarmup(
  options: FeatureMatchingWarmupOptions,
): ConditionableProgram<"noise" | "target" | "context" | "featureTimestep", "loss" | "perSample" | "sample"> {
  const { student, weights = {} } = options;
  const { features: lambdaFeatures = 1, l1: lambdaL1 = 0, mse: lambdaMse = 0 } = weights;
  if (lambdaFeatures === 0 && lambdaL1 === 0 && lambdaMse === 0) {
    throw new InvalidArgumentError("featureMatchingWarmup: every weight is 0. Give at least one term a weight.");
  }
  return (ops, params, { noise, target, featureTimestep, ...conditioning }) => {
    checkPair(ops, "featureMatchingWarmup", noise, target);

    // x_theta(epsilon)
    const sample = student(ops, scope(ops, params, "student"), { noise, ...conditioning });

    // L_FM(x_theta(epsilon), psi(x_phi(epsilon)))
    const terms: (typeof sample)[] = [];
    if (lambdaFeatures !== 0) {
      const { context } = conditioning;
      const distance = compareFeatures(ops, params, options, { sample, target, context, featureTimestep });
      terms.push(ops.mul(distance, lambdaFeatures));
    }
    if (lambdaL1 !== 0) terms.push(ops.mul(l1(ops, sample, target), lambdaL1));
    if (lambdaMse !== 0) terms.push(ops.mul(mse(ops, sample, target), lambdaMse));

    const perSample = terms.reduce((sum, term) => ops.add(sum, term));
    return { loss: ops.mean(perSample), perSample, sample };
  };
}
