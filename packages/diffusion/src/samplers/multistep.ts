import type { NoiseLevel, NoiseSchedule } from "../noise-schedule.js";
import {
  interpolate,
  karrasSigmas,
  linspace,
  roundHalfEven,
  timestepOfSigma,
  trailingTimesteps,
  trainingSigmas,
  type TimestepSpacing,
} from "./timesteps.js";

/** Below this many steps the last one is of first order, for stability: the bound of the solvers' published code and of diffusers. */
export const STABLE_STEPS = 15;

/** Where DPM-Solver++ and DEIS stand at each step, and where the last one ends. */
export interface MultistepGrid {
  readonly timesteps: readonly number[];
  /** steps + 1 mixtures. */
  readonly levels: readonly NoiseLevel<number>[];
}

/** Timesteps and noise levels that the multistep solvers of diffusers use. `end` is the noise-to-signal ratio at the end. */
export function multistepGrid(
  schedule: NoiseSchedule,
  steps: number,
  spacing: TimestepSpacing,
  stepsOffset: number,
  karras: boolean,
  end: number,
): MultistepGrid {
  const table = trainingSigmas(schedule);
  let timesteps = multistepTimesteps(schedule, steps, spacing, stepsOffset);
  let ratios = timesteps.map((timestep) => interpolate(table, timestep));
  if (karras) {
    ratios = karrasSigmas(table[table.length - 1]!, table[0]!, steps);
    timesteps = ratios.map((ratio) => roundHalfEven(timestepOfSigma(table, ratio)));
  }
  const levels = [...ratios, end].map((ratio) => ({
    alpha: 1 / Math.hypot(ratio, 1),
    sigma: ratio / Math.hypot(ratio, 1),
  }));
  return { timesteps, levels };
}

function multistepTimesteps(
  schedule: NoiseSchedule,
  steps: number,
  spacing: TimestepSpacing,
  stepsOffset: number,
): number[] {
  switch (spacing) {
    case "linspace": // steps + 1 points from 0, without 0 itself
      return linspace(0, schedule.trainSteps - 1, steps + 1)
        .map(roundHalfEven)
        .reverse()
        .slice(0, -1);
    case "leading": {
      const stride = Math.floor(schedule.trainSteps / (steps + 1));
      return Array.from({ length: steps }, (_, i) => (steps - i) * stride + stepsOffset);
    }
    case "trailing":
      return trailingTimesteps(schedule, steps);
  }
}

/** Half the logarithm of the signal-to-noise ratio; infinite where no noise is left. */
export const logSnr = ({ alpha, sigma }: NoiseLevel<number>): number => Math.log(alpha) - Math.log(sigma);
