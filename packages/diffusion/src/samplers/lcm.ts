import { InvalidArgumentError } from "@sdxs/tensor";
import { boundaryScalingsAt } from "../consistency.js";
import { noiseLevelAt, type NoiseSchedule } from "../noise-schedule.js";
import { samplePredictionAt, type PredictionType } from "../prediction.js";
import type { SamplerPlan } from "./plan.js";

export interface LcmOptions {
  readonly steps: number;
  /** Default "epsilon". */
  readonly prediction?: PredictionType;
  /** Number of DDIM steps that the consistency model was distilled from. Default 50, that of the published models. */
  readonly originalSteps?: number;
  /** Factor of the timestep in the boundary condition. Default 10, that of the published models. */
  readonly timestepScaling?: number;
}

/**
 * Multistep sampling of a latent consistency model (arXiv:2310.04378): predict x_0, noise it again.
 * Every step but the last adds noise.
 *
 * Throws `InvalidArgumentError` for more steps than the model was distilled from.
 */
export function lcm(schedule: NoiseSchedule, options: LcmOptions): SamplerPlan {
  const { steps, prediction = "epsilon", originalSteps = 50, timestepScaling } = options;
  if (!Number.isInteger(steps) || steps < 1 || steps > originalSteps) {
    throw new InvalidArgumentError(
      `lcm: the number of steps must be a whole number in [1, ${originalSteps}], got ${steps}.`,
    );
  }
  const stride = Math.floor(schedule.trainSteps / originalSteps);
  const timesteps = Array.from({ length: steps }, (_, i) => {
    const skipped = Math.floor((i * originalSteps) / steps);
    return (originalSteps - skipped) * stride - 1;
  });
  return {
    timesteps,
    initNoiseSigma: 1,
    steps: timesteps.map((timestep, i) => {
      const { skip, out } = boundaryScalingsAt(timestep, timestepScaling);
      const next = timesteps[i + 1];
      const level = noiseLevelAt(schedule, timestep);
      const { alpha, sigma } = next === undefined ? { alpha: 1, sigma: 0 } : noiseLevelAt(schedule, next);
      return {
        level,
        timestep,
        inputScale: 1,
        prediction: samplePredictionAt(prediction, level),
        update: { sample: alpha * skip, predictions: [alpha * out], noise: sigma },
      };
    }),
  };
}
