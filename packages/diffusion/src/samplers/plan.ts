import { InvalidArgumentError, type Ops } from "@sdxs/tensor";
import type { NoiseLevel } from "../noise-schedule.js";
import type { LinearPrediction } from "../prediction.js";

/**
 * One step of a sampler, as numbers. Every supported sampler has this form, with x the current sample:
 *
 *     output = network(inputScale x, timestep)
 *     y_k    = prediction.sample x + prediction.output output
 *     x      = update.sample x + update.predictions[0] y_k + update.predictions[1] y_(k-1) + update.noise noise
 */
export interface SamplerStep {
  /** What x is a mixture of, alpha x_0 + sigma noise, where the step begins. */
  readonly level: NoiseLevel<number>;
  /** What the network is told; not a whole number for some spacings. */
  readonly timestep: number;
  /** Factor of the sample before it goes into the network. */
  readonly inputScale: number;
  /** The quantity that the sampler remembers: x_0, or the noise for DEIS. */
  readonly prediction: LinearPrediction;
  readonly update: {
    readonly sample: number;
    /** Of the newest prediction first. */
    readonly predictions: readonly number[];
    /** Factor of fresh standard normal noise; 0 for ODE samplers. */
    readonly noise: number;
  };
}

/** A sampler's whole run, fixed before it begins. */
export interface SamplerPlan {
  readonly timesteps: readonly number[];
  /** Factor of the standard normal noise that sampling starts from. */
  readonly initNoiseSigma: number;
  readonly steps: readonly SamplerStep[];
}

/** Builds a linear combination of tensors from pairs of factor and tensor. */
export type Combine<T> = (terms: readonly (readonly [factor: number, tensor: T])[]) => T;

/** Linear combinations over a backend's operations. */
export function combineWith<T>(ops: Ops<T>): Combine<T> {
  return (terms) =>
    terms.map(([factor, tensor]) => (factor === 1 ? tensor : ops.mul(tensor, factor))).reduce((a, b) => ops.add(a, b));
}

/** A sample on its way, with what the sampler remembers of earlier steps. */
export interface SamplerState<T> {
  readonly sample: T;
  /** Predictions of earlier steps, the newest first. */
  readonly history: readonly T[];
}

/**
 * Applies one step, given the network's output for it. Pure; works on any tensors that `combine` can add.
 * Throws `InvalidArgumentError` if the step needs noise and none is given, or more history than there is.
 *
 * @example
 * let state = { sample: noise, history: [] };
 * for (const step of plan.steps) state = applyStep(combineWith(ops), step, state, network(ops, state.sample, step.timestep));
 */
export function applyStep<T>(
  combine: Combine<T>,
  step: SamplerStep,
  state: SamplerState<T>,
  output: T,
  noise?: T,
): SamplerState<T> {
  const { sample } = state;
  const prediction = combine(
    [[step.prediction.sample, sample] as const, [step.prediction.output, output] as const].filter(isUsed),
  );
  const { update } = step;
  const remembered = [prediction, ...state.history].slice(0, MAX_ORDER);
  const terms: (readonly [number, T])[] = [[update.sample, sample]];
  update.predictions.forEach((factor, age) => {
    const tensor = remembered[age];
    if (tensor === undefined) {
      throw new InvalidArgumentError(
        `applyStep: the step at timestep ${step.timestep} needs ${update.predictions.length - 1} earlier predictions, ` +
          `the state holds ${state.history.length}. Apply a plan's steps in order, from the first.`,
      );
    }
    terms.push([factor, tensor]);
  });
  if (update.noise !== 0) {
    if (noise === undefined) {
      throw new InvalidArgumentError(
        `applyStep: the step at timestep ${step.timestep} adds noise, but none was given. Give standard normal noise.`,
      );
    }
    terms.push([update.noise, noise]);
  }
  return { sample: combine(terms.filter(isUsed)), history: remembered };
}

/** No supported sampler looks back further than one step. */
const MAX_ORDER = 2;

/** A factor of zero stands for "absent", so that the tensor is not read. */
const isUsed = ([factor]: readonly [number, unknown]): boolean => factor !== 0;
