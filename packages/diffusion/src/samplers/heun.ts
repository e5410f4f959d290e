import { checkSampler } from "./timesteps.js";
import type { NoiseSchedule } from "../noise-schedule.js";
import { finitePlan, type SamplerPlan, type SamplerStep } from "./plan.js";
import { atSigma, cleanFromRatio, sigmaGrid, type SigmaOptions } from "./sigma-grid.js";

/**
 * Heun's method on the probability-flow ODE (arXiv:2206.00364, Algorithm 1): a step of Euler's, then the same step again
 * by the mean of the slopes at both ends. The plan has 2 steps - 1 entries, for so many calls of the network: the last step
 * is Euler's. It remembers x_0; the base is the sample where a step began.
 *
 * Throws `InvalidArgumentError` for a step count outside [1, trainSteps].
 */
export function heun(schedule: NoiseSchedule, options: SigmaOptions): SamplerPlan {
  checkSampler("heun", schedule, options);
  const { prediction = "epsilon" } = options;
  const { begin, timesteps, sigmas, initNoiseSigma } = sigmaGrid("heun", schedule, options);
  const steps = timesteps.flatMap((timestep, i): SamplerStep[] => {
    if (i < begin) return [];
    const sigma = sigmas[i]!;
    const next = sigmas[i + 1]!;
    const ratio = next / sigma;
    const first: SamplerStep = {
      ...atSigma(sigma),
      timestep,
      prediction: cleanFromRatio(prediction, sigma),
      update: { sample: ratio, predictions: [1 - ratio], noise: 0 },
      base: { sample: 1, predictions: [] },
    };
    if (i === timesteps.length - 1) return [first];
    // b + (s' - s) / 2 ((b - y_1) / s + (x - y_0) / s'), with b at s and x at s'.
    const half = (next - sigma) / 2;
    const second: SamplerStep = {
      ...atSigma(next),
      timestep: timesteps[i + 1]!,
      prediction: cleanFromRatio(prediction, next),
      update: {
        sample: half / next,
        base: 1 + half / sigma,
        predictions: [-half / next, -half / sigma],
        noise: 0,
      },
    };
    return [first, second];
  });
  return finitePlan("heun", initNoiseSigma, steps);
}
