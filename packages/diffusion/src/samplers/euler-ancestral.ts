import type { NoiseSchedule } from "../noise-schedule.js";
import { finitePlan, type SamplerPlan } from "./plan.js";
import { atSigma, cleanFromRatio, sigmaGrid } from "./sigma-grid.js";
import { checkSampler, type SpacedOptions } from "./timesteps.js";

/**
 * Euler's method that goes below the next noise level and adds noise up to it: ancestral sampling (arXiv:2006.11239) in the
 * variance-exploding form. Every step but the last adds noise. It remembers x_0.
 *
 * Throws `InvalidArgumentError` for a step count outside [1, trainSteps].
 */
export function eulerAncestral(schedule: NoiseSchedule, options: SpacedOptions): SamplerPlan {
  checkSampler("eulerAncestral", schedule, options);
  const { prediction = "epsilon" } = options;
  const { begin, timesteps, sigmas, initNoiseSigma } = sigmaGrid("eulerAncestral", schedule, options);
  const steps = timesteps.map((timestep, i) => {
    const sigma = sigmas[i]!;
    const next = sigmas[i + 1]!;
    const added = Math.sqrt((next ** 2 * (sigma ** 2 - next ** 2)) / sigma ** 2);
    const ratio = Math.sqrt(next ** 2 - added ** 2) / sigma;
    return {
      ...atSigma(sigma),
      timestep,
      prediction: cleanFromRatio(prediction, sigma),
      update: { sample: ratio, predictions: [1 - ratio], noise: added },
    };
  });
  return finitePlan("eulerAncestral", initNoiseSigma, steps.slice(begin));
}
