import { boundaryScalingsAt } from "../consistency.js";
import { noiseLevelAt, type NoiseSchedule } from "../noise-schedule.js";
import { samplePredictionAt } from "../prediction.js";
import { finitePlan, type SamplerPlan } from "./plan.js";
import { checkSampler, firstStep, type SamplerOptions } from "./timesteps.js";

export interface ConsistencySamplerOptions extends SamplerOptions {
  /** Number of DDIM steps that the consistency model was distilled from. Default 50, that of the published models. */
  readonly originalSteps?: number;
}

export interface LcmOptions extends ConsistencySamplerOptions {
  /** Factor of the timestep in the boundary condition. Default 10, that of the published models. */
  readonly timestepScaling?: number;
}

/**
 * Multistep sampling of a latent consistency model (arXiv:2310.04378): predict x_0, noise it again.
 * Every step but the last adds noise. It remembers x_0.
 *
 * Throws `InvalidArgumentError` for more steps than the model was distilled from.
 */
export function lcm(schedule: NoiseSchedule, options: LcmOptions): SamplerPlan {
  checkSampler("lcm", schedule, options);
  const { prediction = "epsilon", timestepScaling } = options;
  const { begin, timesteps } = consistencyTimesteps("lcm", schedule, options);
  const plan = timesteps.slice(begin).map((timestep, i) => {
    const { skip, out } = boundaryScalingsAt(timestep, timestepScaling);
    const next = timesteps[begin + i + 1];
    const level = noiseLevelAt(schedule, timestep);
    const { alpha, sigma } = next === undefined ? { alpha: 1, sigma: 0 } : noiseLevelAt(schedule, next);
    return {
      level,
      timestep,
      inputScale: 1,
      prediction: samplePredictionAt(prediction, level),
      update: { sample: alpha * skip, predictions: [alpha * out], noise: sigma },
    };
  });
  return finitePlan("lcm", 1, plan);
}

/** Timesteps of models that were distilled from `originalSteps` steps: as evenly spaced among theirs as may be. */
export function consistencyTimesteps(
  sampler: string,
  { trainSteps }: NoiseSchedule,
  options: ConsistencySamplerOptions,
): { readonly begin: number; readonly timesteps: readonly number[] } {
  const { steps, originalSteps = 50 } = options;
  const begin = firstStep(sampler, Math.min(originalSteps, trainSteps), options);
  const stride = Math.floor(trainSteps / originalSteps);
  const skipped = originalSteps / steps;
  const timesteps = Array.from({ length: steps }, (_, i) => (originalSteps - Math.floor(i * skipped)) * stride - 1);
  return { begin, timesteps };
}
