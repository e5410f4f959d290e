import { alphaCumprodAt, noiseLevelAt, type NoiseSchedule } from "../noise-schedule.js";
import { samplePredictionAt, type PredictionType } from "../prediction.js";
import type { SamplerPlan } from "./plan.js";
import { checkSteps, linspace, roundHalfEven, trailingTimesteps, type TimestepSpacing } from "./timesteps.js";

export interface DdimOptions {
  readonly steps: number;
  /** Default "epsilon". */
  readonly prediction?: PredictionType;
  /** Default "leading", as diffusers. */
  readonly spacing?: TimestepSpacing;
  /** Added to each timestep of "leading". Default 1, as in Stable Diffusion's configurations. */
  readonly stepsOffset?: number;
  /** Whether the step past timestep 0 ends at abar = 1 (true) or at abar_0. Default false, as in Stable Diffusion's. */
  readonly endsClean?: boolean;
}

/**
 * DDIM with eta 0 (arXiv:2010.02502, Equation 12): the deterministic first-order sampler.
 *
 * @example
 * const plan = ddim(noiseSchedule(), { steps: 50 });
 */
export function ddim(schedule: NoiseSchedule, options: DdimOptions): SamplerPlan {
  const { steps, prediction = "epsilon", spacing = "leading", stepsOffset = 1, endsClean = false } = options;
  checkSteps("ddim", schedule, steps);
  const timesteps = ddimTimesteps(schedule, steps, spacing, stepsOffset);
  const stride = Math.floor(schedule.trainSteps / steps);
  const final = endsClean ? 1 : alphaCumprodAt(schedule, 0);
  return {
    timesteps,
    initNoiseSigma: 1,
    steps: timesteps.map((timestep) => {
      const level = noiseLevelAt(schedule, timestep);
      const { alpha, sigma } = level;
      const previous = timestep - stride;
      const alphaCumprod = previous >= 0 ? alphaCumprodAt(schedule, previous) : final;
      // sqrt(abar') x_0 + sqrt(1 - abar') noise, with noise = (x - alpha x_0) / sigma.
      const noiseShare = Math.sqrt(1 - alphaCumprod) / sigma;
      return {
        level,
        timestep,
        inputScale: 1,
        prediction: samplePredictionAt(prediction, level),
        update: { sample: noiseShare, predictions: [Math.sqrt(alphaCumprod) - noiseShare * alpha], noise: 0 },
      };
    }),
  };
}

/** The timesteps of DDIM and DDPM, from the noisiest down. */
export function ddimTimesteps(
  schedule: NoiseSchedule,
  steps: number,
  spacing: TimestepSpacing,
  stepsOffset: number,
): number[] {
  switch (spacing) {
    case "linspace":
      return linspace(0, schedule.trainSteps - 1, steps)
        .map(roundHalfEven)
        .reverse();
    case "leading": {
      const stride = Math.floor(schedule.trainSteps / steps);
      return Array.from({ length: steps }, (_, i) => (steps - 1 - i) * stride + stepsOffset);
    }
    case "trailing":
      return trailingTimesteps(schedule, steps);
  }
}
