import {
  InvalidArgumentError,
  ShapeError,
  scope,
  type Ops,
  type Program,
  type Scope,
  type Shape,
  type TensorMap,
} from "@sdxs/tensor";
import { oneStepSample, type OneStepConversion } from "@sdxs/diffusion";
import { featureDistillationLoss, featureMatchingLoss, l1, mse } from "@sdxs/losses";

/** What a diffusion network sees. */
export interface NetworkInputs<T> {
  /** [batch, channels, height, width] */
  readonly sample: T;
  /** float32 [batch], in the units of the noise schedule (0 to 999). */
  readonly timestep: T;
  /** Text embeddings [batch, tokens, features]. */
  readonly context: T;
}

/** A diffusion network: its prediction, shaped as the sample. Any function will do that finds its parameters in the scope. */
export type DiffusionNetwork = <T>(ops: Ops<T>, p: Scope<T>, inputs: NetworkInputs<T>) => T;

/** An encoder f whose intermediate maps [batch, channels, ...positions] are compared: a U-Net's encoder half, a CNN, a ViT. */
export type FeatureExtractor = <T>(ops: Ops<T>, p: Scope<T>, inputs: NetworkInputs<T>) => readonly T[];

export interface FeatureMatchingWarmupOptions {
  /** The one-step model x_theta in training; its parameters lie under "student.". */
  readonly student: DiffusionNetwork;
  /** The frozen encoder f; its parameters lie under "teacher.". */
  readonly features: FeatureExtractor;
  /** How the student's output becomes a sample, as `oneStepConversion` gives it. */
  readonly conversion: OneStepConversion;
  /** How feature maps are compared: by SSIM as in Equation 10 (default), or by their mean squared error. */
  readonly featureLoss?: "ssim" | "mse";
  /** w_l of Equation 10, one per feature map. Default 1 / number of maps: the paper publishes none. */
  readonly featureWeights?: readonly number[];
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
 * - `featureTimestep` [batch]: what the encoder is told. Samples are clean, so a low one.
 *
 * Outputs: `loss`, the batch's mean; `perSample` [batch]; `sample`, the student's, shaped as `noise`.
 *
 * Throws `ShapeError` where `noise` and `target` differ, `InvalidArgumentError` where every weight is 0.
 *
 * @example
 * const program = featureMatchingWarmup({
 *   student: (ops, p, { context, ...inputs }) => unet(ops, p, config, { ...inputs, encoderHiddenStates: context }).sample,
 *   features: (ops, p, { context, ...inputs }) =>
 *     unetEncoder(ops, p, teacher, { ...inputs, encoderHiddenStates: context }).downBlocks,
 *   conversion: oneStepConversion(noiseSchedule()),
 * });
 */
export function featureMatchingWarmup(
  options: FeatureMatchingWarmupOptions,
): Program<"noise" | "target" | "context" | "featureTimestep", "loss" | "perSample" | "sample"> {
  const { student, features, conversion, featureLoss = "ssim", featureWeights, weights = {} } = options;
  const { features: lambdaFeatures = 1, l1: lambdaL1 = 0, mse: lambdaMse = 0 } = weights;
  if (lambdaFeatures === 0 && lambdaL1 === 0 && lambdaMse === 0) {
    throw new InvalidArgumentError("featureMatchingWarmup: every weight is 0. Give at least one term a weight.");
  }
  return <T>(ops: Ops<T>, params: TensorMap<T>, inputs: WarmupInputs<T>) => {
    const { noise, target, context, featureTimestep } = inputs;
    checkPair(ops.shape(noise), ops.shape(target));

    // x_theta(epsilon)
    const output = student(ops, scope(ops, params, "student"), {
      sample: conversion.input === 1 ? noise : ops.mul(noise, conversion.input),
      timestep: ops.broadcastTo(ops.scalar(conversion.timestep), ops.shape(noise).slice(0, 1)),
      context,
    });
    const sample = oneStepSample(ops, noise, output, conversion);

    // L_FM(x_theta(epsilon), psi(x_phi(epsilon)))
    const terms: T[] = [];
    if (lambdaFeatures !== 0) {
      const encode = (x: T): readonly T[] =>
        features(ops, scope(ops, params, "teacher"), { sample: x, timestep: featureTimestep, context });
      const maps = encode(sample);
      const distance = featureLoss === "ssim" ? featureMatchingLoss : featureDistillationLoss;
      const mapWeights = featureWeights ?? maps.map(() => 1 / maps.length);
      terms.push(ops.mul(distance(ops, maps, encode(target), { weights: mapWeights }), lambdaFeatures));
    }
    if (lambdaL1 !== 0) terms.push(ops.mul(l1(ops, sample, target), lambdaL1));
    if (lambdaMse !== 0) terms.push(ops.mul(mse(ops, sample, target), lambdaMse));

    const perSample = terms.reduce((sum, term) => ops.add(sum, term));
    return { loss: ops.mean(perSample), perSample, sample };
  };
}

type WarmupInputs<T> = Readonly<Record<"noise" | "target" | "context" | "featureTimestep", T>>;

function checkPair(noise: Shape, target: Shape): void {
  if (noise.join() === target.join()) return;
  throw new ShapeError(
    `featureMatchingWarmup: target must be shaped as noise [${noise.join(", ")}], got [${target.join(", ")}]. ` +
      `Both live in the latent space; convert images by the encoder first.`,
  );
}
