import { alphaCumprodAt, noiseLevelAt, type NoiseSchedule } from "../noise-schedule.js";
import { samplePredictionAt } from "../prediction.js";
import { finitePlan, type SamplerPlan } from "./plan.js";
import { checkEta, checkSampler, firstStep, roundHalfEven, spacedTimesteps, type SpacedOptions } from "./timesteps.js";

export interface DdimOptions extends SpacedOptions {
  /** Added to each timestep of "leading". Default 1, as in Stable Diffusion's configurations. */
  readonly stepsOffset?: number;
  /** Whether the step past timestep 0 ends at abar = 1 (true) or at abar_0. Default false, as in Stable Diffusion's. */
  readonly endsClean?: boolean;
  /** How much noise each step adds: 0 none, 1 as much as DDPM (arXiv:2010.02502, Equation 16). Default 0. */
  readonly eta?: number;
}

/**
 * DDIM (arXiv:2010.02502, Equation 12): the first-order sampler, deterministic with eta 0. It remembers x_0.
 *
 * @example
 * const plan = ddim(noiseSchedule(), { steps: 50 });
 */
export function ddim(schedule: NoiseSchedule, options: DdimOptions): SamplerPlan {
  checkSampler("ddim", schedule, options);
  const { steps, prediction = "epsilon", spacing = "leading", stepsOffset = 1, endsClean = false, eta = 0 } = options;
  checkEta("ddim", eta);
  const begin = firstStep("ddim", schedule.trainSteps, options);
  const stride = Math.floor(schedule.trainSteps / steps);
  const final = endsClean ? 1 : alphaCumprodAt(schedule, 0);
  const timesteps = spacedTimesteps(schedule, steps, spacing, stepsOffset).map(roundHalfEven);
  const plan = timesteps.slice(begin).map((timestep) => {
    const level = noiseLevelAt(schedule, timestep);
    const { alpha, sigma } = level;
    const previous = timestep - stride;
    const alphaCumprod = previous >= 0 ? alphaCumprodAt(schedule, previous) : final;
    const kept = Math.min(1, alphaCumprodAt(schedule, timestep) / alphaCumprod);
    const noise = eta * Math.sqrt(((1 - alphaCumprod) / sigma ** 2) * (1 - kept));
    // sqrt(abar') x_0 + sqrt(1 - abar' - added^2) noise, with noise = (x - alpha x_0) / sigma.
    const noiseShare = Math.sqrt(Math.max(0, 1 - alphaCumprod - noise ** 2)) / sigma;
    return {
      level,
      timestep,
      inputScale: 1,
      prediction: samplePredictionAt(prediction, level),
      update: { sample: noiseShare, predictions: [Math.sqrt(alphaCumprod) - noiseShare * alpha], noise },
    };
  });
  return finitePlan("ddim", 1, plan);
}
