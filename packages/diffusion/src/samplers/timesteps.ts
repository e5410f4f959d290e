import { InvalidArgumentError, checkFields } from "@sdxs/tensor";
import { checkSchedule, type NoiseSchedule } from "../noise-schedule.js";
import type { PredictionType } from "../prediction.js";

/** What every sampler takes. */
export interface SamplerOptions {
  readonly steps: number;
  /** What the network predicts. Default "epsilon". */
  readonly prediction?: PredictionType;
  /**
   * For image-to-image, as diffusers does it: only the last floor(steps x strength) steps are done, in (0, 1]. They begin at a
   * clean sample with noise added, alpha x_0 + sigma noise by the `level` of the plan's first step, and solvers of higher
   * order begin again there. Default: all steps, from noise alone.
   */
  readonly strength?: number;
}

/**
 * How a sampler's timesteps are chosen from the training ones; the names and results are those of diffusers
 * (see Table 2 of arXiv:2305.08891). "trailing" begins at the last timestep whatever the number of steps.
 */
export type TimestepSpacing = "linspace" | "leading" | "trailing";

export interface SpacedOptions extends SamplerOptions {
  /** Default: that of diffusers for the sampler. */
  readonly spacing?: TimestepSpacing;
  /** Added to each timestep of "leading". Default 0, as diffusers; Stable Diffusion's configurations say 1. */
  readonly stepsOffset?: number;
}

/** Throws `InvalidArgumentError` unless a sampler is given a schedule and options with steps. */
export function checkSampler(sampler: string, schedule: NoiseSchedule, options: SamplerOptions): void {
  checkSchedule(sampler, schedule);
  checkFields(sampler, "options", options, ["steps"]);
}

/**
 * Index of the first step to do of `options.steps`.
 * Throws `InvalidArgumentError` unless `steps` is a whole number in [1, most] and the strength leaves a step.
 */
export function firstStep(sampler: string, most: number, { steps, strength }: SamplerOptions): number {
  if (!Number.isInteger(steps) || steps < 1 || steps > most) {
    throw new InvalidArgumentError(
      `${sampler}: the number of steps must be a whole number in [1, ${most}], got ${steps}.`,
    );
  }
  if (strength === undefined) return 0;
  if (!(strength > 0 && strength <= 1)) {
    throw new InvalidArgumentError(`${sampler}: strength must be above 0 and at most 1, got ${strength}.`);
  }
  const left = Math.floor(steps * strength);
  if (left === 0) {
    throw new InvalidArgumentError(
      `${sampler}: of ${steps} steps a strength of ${strength} leaves none. Take at least ${Math.ceil(1 / strength)}.`,
    );
  }
  return steps - left;
}

/** Throws `InvalidArgumentError` unless eta is in [0, 1]. */
export function checkEta(sampler: string, eta: number): void {
  if (!(eta >= 0 && eta <= 1)) throw new InvalidArgumentError(`${sampler}: eta must be from 0 to 1, got ${eta}.`);
}

/** Rounds halves to the even neighbour, as NumPy does. */
export function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const fraction = value - floor;
  if (fraction !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}

/** `count` numbers from `from` to `to`, both included; only `from` if `count` is 1. In NumPy's order of operations. */
export function linspace(from: number, to: number, count: number): number[] {
  const step = (to - from) / (count - 1);
  return Array.from({ length: count }, (_, i) => (i > 0 && i === count - 1 ? to : i === 0 ? from : i * step + from));
}

/** Timesteps from the noisiest down, as DDIM and the samplers over sigma choose them; those of "linspace" are not rounded. */
export function spacedTimesteps(
  { trainSteps }: NoiseSchedule,
  steps: number,
  spacing: TimestepSpacing,
  stepsOffset: number,
): number[] {
  switch (spacing) {
    case "linspace":
      return linspace(0, trainSteps - 1, steps).reverse();
    case "leading": {
      const stride = Math.floor(trainSteps / steps);
      return Array.from({ length: steps }, (_, i) => (steps - 1 - i) * stride + stepsOffset);
    }
    case "trailing":
      return trailingTimesteps(trainSteps, trainSteps, steps);
  }
}

/** Timesteps from `last` - 1 down in strides of trainSteps / steps, rounded, and at most `steps` of them. */
export function trailingTimesteps(last: number, trainSteps: number, steps: number): number[] {
  const next = last - trainSteps / steps;
  const stride = last - next; // rounded as in NumPy's arange
  return Array.from({ length: steps }, (_, i) => roundHalfEven(last - i * stride) - 1).filter((value) => value >= 0);
}
