import { alphaCumprodAt, noiseLevelAt, type NoiseSchedule } from "../noise-schedule.js";
import { samplePredictionAt, type PredictionType } from "../prediction.js";
import { ddimTimesteps } from "./ddim.js";
import type { SamplerPlan } from "./plan.js";
import { checkSteps, type TimestepSpacing } from "./timesteps.js";

export interface DdpmOptions {
  readonly steps: number;
  /** Default "epsilon". */
  readonly prediction?: PredictionType;
  /** Default "leading", as diffusers. */
  readonly spacing?: TimestepSpacing;
  /** Added to each timestep of "leading". Default 0, as diffusers. */
  readonly stepsOffset?: number;
}

/**
 * Ancestral sampling (arXiv:2006.11239, Equations 6 and 7) with the posterior's variance.
 * Every step but the one at timestep 0 adds noise.
 */
export function ddpm(schedule: NoiseSchedule, options: DdpmOptions): SamplerPlan {
  const { steps, prediction = "epsilon", spacing = "leading", stepsOffset = 0 } = options;
  checkSteps("ddpm", schedule, steps);
  const timesteps = ddimTimesteps(schedule, steps, spacing, stepsOffset);
  const stride = Math.floor(schedule.trainSteps / steps);
  return {
    timesteps,
    initNoiseSigma: 1,
    steps: timesteps.map((timestep) => {
      const level = noiseLevelAt(schedule, timestep);
      const current = alphaCumprodAt(schedule, timestep);
      const previous = timestep - stride >= 0 ? alphaCumprodAt(schedule, timestep - stride) : 1;
      const alpha = current / previous;
      const variance = ((1 - previous) / (1 - current)) * (1 - alpha);
      return {
        level,
        timestep,
        inputScale: 1,
        prediction: samplePredictionAt(prediction, level),
        update: {
          sample: (Math.sqrt(alpha) * (1 - previous)) / (1 - current),
          predictions: [(Math.sqrt(previous) * (1 - alpha)) / (1 - current)],
          noise: timestep > 0 ? Math.sqrt(variance) : 0,
        },
      };
    }),
  };
}
