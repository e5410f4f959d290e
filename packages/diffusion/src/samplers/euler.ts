import type { NoiseSchedule } from "../noise-schedule.js";
import type { LinearPrediction, PredictionType } from "../prediction.js";
import type { SamplerPlan } from "./plan.js";
import {
  checkSteps,
  interpolate,
  karrasSigmas,
  linspace,
  timestepOfSigma,
  trailingTimesteps,
  trainingSigmas,
  type TimestepSpacing,
} from "./timesteps.js";

export interface EulerOptions {
  readonly steps: number;
  /** Default "epsilon". */
  readonly prediction?: PredictionType;
  /** Default "linspace", as diffusers. */
  readonly spacing?: TimestepSpacing;
  /** Added to each timestep of "leading". Default 0, as diffusers; Stable Diffusion's configurations say 1. */
  readonly stepsOffset?: number;
  /** Space the noise levels as arXiv:2206.00364 does. Default false. */
  readonly karras?: boolean;
}

/**
 * Euler's method on the probability-flow ODE in the variance-exploding form (arXiv:2206.00364, Algorithm 1 without its correction).
 * The sample is x_0 + s noise, with s the noise-to-signal ratio, and is scaled before it goes into the network.
 *
 * Throws `InvalidArgumentError` for a step count outside [1, trainSteps].
 */
export function euler(schedule: NoiseSchedule, options: EulerOptions): SamplerPlan {
  const { steps, prediction = "epsilon", spacing = "linspace", stepsOffset = 0, karras = false } = options;
  checkSteps("euler", schedule, steps);
  const table = trainingSigmas(schedule);
  const spaced = eulerTimesteps(schedule, steps, spacing, stepsOffset);
  const sigmas = karras
    ? karrasSigmas(interpolate(table, spaced[0]!), interpolate(table, spaced[steps - 1]!), steps)
    : spaced.map((timestep) => interpolate(table, timestep));
  const timesteps = karras ? sigmas.map((sigma) => timestepOfSigma(table, sigma)) : spaced;
  const largest = Math.max(...sigmas);
  return {
    timesteps,
    // With "leading" sampling begins below the last timestep, so the signal's unit variance counts too.
    initNoiseSigma: spacing === "leading" ? Math.hypot(largest, 1) : largest,
    steps: timesteps.map((timestep, i) => {
      const sigma = sigmas[i]!;
      const next = sigmas[i + 1] ?? 0;
      // x + (x - x_0) / s (s' - s)
      return {
        level: { alpha: 1, sigma },
        timestep,
        inputScale: 1 / Math.hypot(sigma, 1),
        prediction: cleanFromRatio(prediction, sigma),
        update: { sample: next / sigma, predictions: [1 - next / sigma], noise: 0 },
      };
    }),
  };
}

function eulerTimesteps(
  schedule: NoiseSchedule,
  steps: number,
  spacing: TimestepSpacing,
  stepsOffset: number,
): number[] {
  switch (spacing) {
    case "linspace":
      return linspace(0, schedule.trainSteps - 1, steps).reverse();
    case "leading": {
      const stride = Math.floor(schedule.trainSteps / steps);
      return Array.from({ length: steps }, (_, i) => (steps - 1 - i) * stride + stepsOffset);
    }
    case "trailing":
      return trailingTimesteps(schedule, steps);
  }
}

/** x_0 from x_0 + s noise and the output of a network that saw it scaled to unit variance. */
function cleanFromRatio(type: PredictionType, ratio: number): LinearPrediction {
  switch (type) {
    case "epsilon":
      return { sample: 1, output: -ratio };
    case "v_prediction":
      return { sample: 1 / (ratio ** 2 + 1), output: -ratio / Math.hypot(ratio, 1) };
    case "sample":
      return { sample: 0, output: 1 };
  }
}
