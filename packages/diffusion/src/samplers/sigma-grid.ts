import type { NoiseSchedule } from "../noise-schedule.js";
import type { LinearPrediction, PredictionType } from "../prediction.js";
import {
  interpolate,
  spacedSigmas,
  timestepOfSigma,
  trainingSigmas,
  type SigmaRange,
  type SigmaSpacing,
} from "./sigmas.js";
import { firstStep, spacedTimesteps, type SpacedOptions } from "./timesteps.js";

/** What the samplers over sigma take: the sample is x_0 + sigma noise, and is scaled before it goes into the network. */
export interface SigmaOptions extends SpacedOptions, SigmaRange {
  /** Default "timesteps". */
  readonly sigmaSpacing?: SigmaSpacing;
}

export interface SigmaGrid {
  /** Index of the first step to do. */
  readonly begin: number;
  readonly timesteps: readonly number[];
  /** Noise-to-signal ratios at each timestep, and where the last step ends. */
  readonly sigmas: readonly number[];
  readonly initNoiseSigma: number;
}

/** The timesteps and noise-to-signal ratios of each step of the samplers over sigma. `end` is the ratio at the end. */
export function sigmaGrid(sampler: string, schedule: NoiseSchedule, options: SigmaOptions, end = 0): SigmaGrid {
  const { steps, spacing = "linspace", stepsOffset = 0, sigmaSpacing = "timesteps" } = options;
  const begin = firstStep(sampler, schedule.trainSteps, options);
  const table = trainingSigmas(schedule);
  let timesteps = spacedTimesteps(schedule, steps, spacing, stepsOffset);
  let sigmas = timesteps.map((timestep) => interpolate(table, timestep));
  if (sigmaSpacing !== "timesteps") {
    const { sigmaMax = sigmas[0]!, sigmaMin = sigmas.at(-1)! } = options;
    sigmas = spacedSigmas(sigmaSpacing, sigmaMax, sigmaMin, steps);
    timesteps = sigmas.map((sigma) => timestepOfSigma(table, sigma));
  }
  sigmas = sigmas.map(Math.fround); // as in diffusers: solvers may multiply what is lost by the largest of them
  return { begin, timesteps, sigmas: [...sigmas, end], initNoiseSigma: initNoiseSigma(sigmas, options) };
}

/** With "leading" sampling begins below the last timestep, so the signal's unit variance counts too. */
export function initNoiseSigma(sigmas: readonly number[], { spacing, strength }: SpacedOptions): number {
  if (strength !== undefined) return 1;
  const largest = Math.max(...sigmas);
  return spacing === "leading" ? Math.hypot(largest, 1) : largest;
}

/** x_0 from x_0 + s noise and the output of a network that saw it scaled to unit variance. */
export function cleanFromRatio(type: PredictionType, ratio: number): LinearPrediction {
  switch (type) {
    case "epsilon":
      return { sample: 1, output: -ratio };
    case "v_prediction":
      return { sample: 1 / (ratio ** 2 + 1), output: -ratio / Math.hypot(ratio, 1) };
    case "sample":
      return { sample: 0, output: 1 };
  }
}

/** What all samplers over sigma do the same at one noise-to-signal ratio. */
export const atSigma = (
  sigma: number,
): { readonly level: { alpha: number; sigma: number }; readonly inputScale: number } => ({
  level: { alpha: 1, sigma },
  inputScale: 1 / Math.hypot(sigma, 1),
});
