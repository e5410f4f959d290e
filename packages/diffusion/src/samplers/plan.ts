import { InvalidArgumentError, UnsupportedConfigError, type Ops } from "@sdxs/tensor";
import type { NoiseLevel } from "../noise-schedule.js";
import type { LinearPrediction } from "../prediction.js";

/** A linear combination of what a sampler holds; y_0 is the step's own prediction, y_1 the one before. */
export interface LinearUpdate {
  /** Factor of the sample x. */
  readonly sample: number;
  /** Factor of the base sample; absent is 0. */
  readonly base?: number;
  /** Factors of the predictions y_0, y_1, ... */
  readonly predictions: readonly number[];
}

/**
 * One call of the network, as numbers. Every supported sampler has this form, with x the current sample and b the base,
 * an earlier sample that some solvers return to:
 *
 *     output = network(inputScale x, timestep)
 *     y_0    = prediction.sample x + prediction.output output
 *     x'     = update.sample x + update.base b + update.predictions[0] y_0 + update.predictions[1] y_1 + ... + update.noise noise
 *     b'     = base.sample x + base.base b + base.predictions[0] y_0 + ..., or b where `base` is absent
 */
export interface SamplerStep {
  /** The mixture alpha x_0 + sigma noise that x is when the step begins. */
  readonly level: NoiseLevel<number>;
  /** The network's timestep input; not a whole number for some spacings. */
  readonly timestep: number;
  /** Factor of the sample before it goes into the network. */
  readonly inputScale: number;
  /** The quantity that the sampler remembers: x_0 or the noise, as each sampler's documentation says. */
  readonly prediction: LinearPrediction;
  readonly update: LinearUpdate & {
    /** Factor of fresh standard normal noise; 0 for ODE samplers. */
    readonly noise: number;
  };
  /** The next base: Heun's method, PNDM and UniPC have one. */
  readonly base?: LinearUpdate;
}

/** A sampler's whole run, fixed before it begins. */
export interface SamplerPlan {
  readonly timesteps: readonly number[];
  /** Factor of the standard normal noise that sampling starts from; 1 where it starts from a noised image. */
  readonly initNoiseSigma: number;
  /** One for each call of the network: Heun's method makes two for each step but the last. */
  readonly steps: readonly SamplerStep[];
}

/**
 * The plan, if all of its numbers are finite.
 * Throws `UnsupportedConfigError` naming the sampler and the timestep otherwise.
 */
export function finitePlan(sampler: string, initNoiseSigma: number, steps: readonly SamplerStep[]): SamplerPlan {
  for (const [index, step] of steps.entries()) {
    const { level, timestep, inputScale, prediction, update, base } = step;
    const numbers = [
      ...[initNoiseSigma, level.alpha, level.sigma, timestep, inputScale, prediction.sample, prediction.output],
      ...[update, base ?? []].flatMap((from) => Object.values(from).flat() as number[]),
    ];
    if (!numbers.every(Number.isFinite)) {
      throw new UnsupportedConfigError(
        `${sampler}: step ${index + 1} of ${steps.length}, at timestep ${timestep}, has factors that are not finite. ` +
          `Take fewer steps, another timestep spacing, or a schedule whose betas are below 1.`,
      );
    }
  }
  return { timesteps: steps.map(({ timestep }) => timestep), initNoiseSigma, steps };
}

/** How many predictions before its own a plan looks back, and whether it has a base. */
export function memoryOf({ steps }: SamplerPlan): { readonly predictions: number; readonly base: boolean } {
  const depth = ({ predictions }: LinearUpdate): number =>
    Math.max(0, ...predictions.map((factor, age) => (factor === 0 ? 0 : age)));
  return {
    predictions: Math.max(0, ...steps.flatMap(({ update, base }) => [update, base ?? []].flat().map(depth))),
    base: steps.some(({ base }) => base !== undefined),
  };
}

/** Builds a linear combination of tensors from pairs of factor and tensor. */
export type Combine<T> = (terms: readonly (readonly [factor: number, tensor: T])[]) => T;

/** Linear combinations over a backend's operations. */
export function combineWith<T>(ops: Ops<T>): Combine<T> {
  return (terms) =>
    terms.map(([factor, tensor]) => (factor === 1 ? tensor : ops.mul(tensor, factor))).reduce((a, b) => ops.add(a, b));
}

/** A sample between two steps, with what the sampler remembers of earlier steps. */
export interface SamplerState<T> {
  readonly sample: T;
  /** Predictions of earlier steps, the newest first. */
  readonly history: readonly T[];
  /** An earlier sample that the sampler returns to, if it has one. */
  readonly base?: T;
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
  const { prediction, update, timestep } = step;
  const newest = combine(
    [[prediction.sample, state.sample] as const, [prediction.output, output] as const].filter(isUsed),
  );
  const remembered = [newest, ...state.history].slice(0, LONGEST_MEMORY);
  const held = (tensor: T | undefined, what: string): T => {
    if (tensor !== undefined) return tensor;
    throw new InvalidArgumentError(
      `applyStep: the step at timestep ${timestep} needs ${what}. Apply a plan's steps in order, from the first.`,
    );
  };
  const terms = ({ sample, base = 0, predictions }: LinearUpdate): (readonly [number, T])[] => [
    ...(sample === 0 ? [] : [[sample, state.sample] as const]),
    ...(base === 0
      ? []
      : [[base, held(state.base, "the sample of an earlier step, and the state holds none")] as const]),
    ...predictions.flatMap((factor, age) => {
      if (factor === 0) return [];
      const what = `${age} earlier predictions, and the state holds ${state.history.length}`;
      return [[factor, held(remembered[age], what)] as const];
    }),
  ];
  const added: (readonly [number, T])[] = [];
  if (update.noise !== 0) {
    if (noise === undefined) {
      throw new InvalidArgumentError(
        `applyStep: the step at timestep ${timestep} adds noise, but none was given. Give standard normal noise.`,
      );
    }
    added.push([update.noise, noise]);
  }
  const base = step.base === undefined ? state.base : combine(terms(step.base));
  return {
    sample: combine([...terms(update), ...added]),
    history: remembered,
    ...(base !== undefined && { base }),
  };
}

/** PNDM that begins with Runge-Kutta steps looks back furthest, over three of these with four calls each. */
const LONGEST_MEMORY = 13;

/** A factor of zero stands for "absent", so that the tensor is not read. */
const isUsed = ([factor]: readonly [number, unknown]): boolean => factor !== 0;
