import { checkSampler } from "./timesteps.js";
import type { NoiseSchedule } from "../noise-schedule.js";
import { finitePlan, type SamplerPlan } from "./plan.js";
import { atSigma, cleanFromRatio, initNoiseSigma, sigmaGrid, type SigmaOptions } from "./sigma-grid.js";
import { spacedSigmas, trainingSigmas } from "./sigmas.js";

export interface EulerOptions extends SigmaOptions {
  /** Noise-to-signal ratio at the end: none, or that of timestep 0. Default "zero", as diffusers. */
  readonly finalSigma?: "zero" | "sigma_min";
  /**
   * How the noise-to-signal ratios of the timesteps are found: between those of the training's timesteps, or evenly in their
   * logarithm over the schedule, without regard to the timesteps ("log_linear", as early video models). Default "linear".
   */
  readonly interpolation?: "linear" | "log_linear";
  /** Give the network log(sigma) / 4 in place of timesteps, as Stable Video Diffusion needs (arXiv:2206.00364, Table 1). Default false. */
  readonly continuousTimesteps?: boolean;
}

/**
 * Euler's method on the probability-flow ODE in the variance-exploding form (arXiv:2206.00364, Algorithm 1 without its correction).
 * The sample is x_0 + s noise, with s the noise-to-signal ratio, and is scaled before it goes into the network. It remembers x_0.
 *
 * Throws `InvalidArgumentError` for a step count outside [1, trainSteps].
 */
export function euler(schedule: NoiseSchedule, options: EulerOptions): SamplerPlan {
  checkSampler("euler", schedule, options);
  const { prediction = "epsilon", finalSigma = "zero", continuousTimesteps = false } = options;
  const table = trainingSigmas(schedule);
  const end = finalSigma === "zero" ? 0 : table[0]!;
  const grid = eulerGrid(schedule, table, options, end);
  const { sigmas } = grid;
  const timesteps = continuousTimesteps ? sigmas.slice(0, -1).map((sigma) => Math.log(sigma) / 4) : grid.timesteps;
  const steps = timesteps.map((timestep, i) => {
    const sigma = sigmas[i]!;
    const ratio = sigmas[i + 1]! / sigma;
    // x + (x - x_0) / s (s' - s)
    return {
      ...atSigma(sigma),
      timestep,
      prediction: cleanFromRatio(prediction, sigma),
      update: { sample: ratio, predictions: [1 - ratio], noise: 0 },
    };
  });
  return finitePlan("euler", grid.initNoiseSigma, steps.slice(grid.begin));
}

function eulerGrid(schedule: NoiseSchedule, table: Float64Array, options: EulerOptions, end: number) {
  const { steps, interpolation = "linear", sigmaSpacing = "timesteps" } = options;
  const largest = table.at(-1)!;
  const smallest = table[0]!;
  if (interpolation === "linear") return sigmaGrid("euler", schedule, options, end);
  // The range is then the schedule's, whatever the timesteps.
  const grid = sigmaGrid("euler", schedule, { sigmaMax: largest, sigmaMin: smallest, ...options }, end);
  if (sigmaSpacing !== "timesteps") return grid;
  // One more than there are timesteps: the last step ends at the smallest, and the end after it is not reached.
  const sigmas = spacedSigmas("exponential", largest, smallest, steps + 1);
  return { ...grid, sigmas: [...sigmas, end], initNoiseSigma: initNoiseSigma(sigmas, options) };
}
