import { alphaCumprodAt, noiseLevelAt, type NoiseSchedule } from "../noise-schedule.js";
import { samplePredictionAt } from "../prediction.js";
import { finitePlan, type SamplerPlan } from "./plan.js";
import { checkSampler, firstStep, roundHalfEven, spacedTimesteps, type SpacedOptions } from "./timesteps.js";

export interface DdpmOptions extends SpacedOptions {
  /** Variance of the noise that a step adds: the posterior's, or beta (arXiv:2006.11239, Section 3.2). Default "posterior". */
  readonly variance?: "posterior" | "beta";
}

/** The least variance of the posterior, as diffusers has it. */
const LEAST_VARIANCE = 1e-20;

/**
 * Ancestral sampling (arXiv:2006.11239, Equations 6 and 7). Every step but the one at timestep 0 adds noise. It remembers x_0.
 */
export function ddpm(schedule: NoiseSchedule, options: DdpmOptions): SamplerPlan {
  checkSampler("ddpm", schedule, options);
  const { steps, prediction = "epsilon", spacing = "leading", stepsOffset = 0, variance = "posterior" } = options;
  const begin = firstStep("ddpm", schedule.trainSteps, options);
  const stride = Math.floor(schedule.trainSteps / steps);
  const timesteps = spacedTimesteps(schedule, steps, spacing, stepsOffset).map(roundHalfEven);
  const plan = timesteps.slice(begin).map((timestep) => {
    const level = noiseLevelAt(schedule, timestep);
    const current = alphaCumprodAt(schedule, timestep);
    const previous = timestep - stride >= 0 ? alphaCumprodAt(schedule, timestep - stride) : 1;
    const alpha = current / previous;
    const beta = 1 - alpha;
    const added = variance === "beta" ? beta : Math.max(((1 - previous) / (1 - current)) * beta, LEAST_VARIANCE);
    return {
      level,
      timestep,
      inputScale: 1,
      prediction: samplePredictionAt(prediction, level),
      update: {
        sample: (Math.sqrt(alpha) * (1 - previous)) / (1 - current),
        predictions: [(Math.sqrt(previous) * beta) / (1 - current)],
        noise: timestep > 0 ? Math.sqrt(added) : 0,
      },
    };
  });
  return finitePlan("ddpm", 1, plan);
}
