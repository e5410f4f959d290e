import { alphaCumprodAt, noiseLevelAt, type NoiseSchedule } from "../noise-schedule.js";
import { samplePredictionAt } from "../prediction.js";
import { consistencyTimesteps, type ConsistencySamplerOptions } from "./lcm.js";
import { finitePlan, type SamplerPlan } from "./plan.js";
import { checkEta, checkSampler } from "./timesteps.js";

export interface TcdOptions extends ConsistencySamplerOptions {
  /** gamma of the paper, in [0, 1]: how far below the next timestep each step goes before noise is added. Default 0.3, as diffusers. */
  readonly eta?: number;
}

/**
 * Strategic stochastic sampling of a trajectory consistency model (arXiv:2402.19159, Algorithm 4). Every step but the last
 * adds noise, unless eta is 0. It remembers x_0, and ends at the noise level of timestep 0.
 *
 * Throws `InvalidArgumentError` for more steps than the model was distilled from.
 */
export function tcd(schedule: NoiseSchedule, options: TcdOptions): SamplerPlan {
  checkSampler("tcd", schedule, options);
  const { prediction = "epsilon", eta = 0.3 } = options;
  checkEta("tcd", eta);
  const { begin, timesteps } = consistencyTimesteps("tcd", schedule, options);
  const plan = timesteps.slice(begin).map((timestep, i) => {
    const following = timesteps[begin + i + 1];
    const next = following ?? 0;
    const level = noiseLevelAt(schedule, timestep);
    // In float32, as diffusers, so that a whole number stays one.
    const below = noiseLevelAt(schedule, Math.floor(Math.fround(Math.fround(1 - eta) * next)));
    const kept = following === undefined ? 1 : alphaCumprodAt(schedule, next) / below.alpha ** 2;
    const noiseShare = below.sigma / level.sigma;
    return {
      level,
      timestep,
      inputScale: 1,
      prediction: samplePredictionAt(prediction, level),
      update: {
        sample: Math.sqrt(kept) * noiseShare,
        predictions: [Math.sqrt(kept) * (below.alpha - noiseShare * level.alpha)],
        noise: eta === 0 ? 0 : Math.sqrt(Math.max(1 - kept, 0)),
      },
    };
  });
  return finitePlan("tcd", 1, plan);
}
