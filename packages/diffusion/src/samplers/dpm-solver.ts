import type { NoiseSchedule } from "../noise-schedule.js";
import { samplePredictionAt, type PredictionType } from "../prediction.js";
import { logSnr, multistepGrid, STABLE_STEPS } from "./multistep.js";
import type { SamplerPlan } from "./plan.js";
import { checkSteps, trainingSigmas, type TimestepSpacing } from "./timesteps.js";

export interface DpmSolverOptions {
  readonly steps: number;
  /** Default "epsilon". */
  readonly prediction?: PredictionType;
  /** Default "linspace", as diffusers. */
  readonly spacing?: TimestepSpacing;
  /** Added to each timestep of "leading". Default 0, as diffusers; Stable Diffusion's configurations say 1. */
  readonly stepsOffset?: number;
  /** Space the noise levels as arXiv:2206.00364 does. Default false. */
  readonly karras?: boolean;
  /** Noise level at the end: none, or that of timestep 0. Default "zero", as diffusers. */
  readonly finalSigma?: "zero" | "sigma_min";
}

/**
 * DPM-Solver++(2M) (arXiv:2211.01095, Algorithm 2): the second-order multistep sampler, midpoint form.
 * The first step, and the last one of a short run or of one that ends without noise, are of first order.
 *
 * Throws `InvalidArgumentError` for a step count outside [1, trainSteps].
 *
 * @example
 * const plan = dpmSolver(noiseSchedule(), { steps: 25, karras: true });
 */
export function dpmSolver(schedule: NoiseSchedule, options: DpmSolverOptions): SamplerPlan {
  const { steps, prediction = "epsilon", spacing = "linspace", stepsOffset = 0, karras = false } = options;
  const { finalSigma = "zero" } = options;
  checkSteps("dpmSolver", schedule, steps);
  const end = finalSigma === "zero" ? 0 : trainingSigmas(schedule)[0]!;
  const { timesteps, levels } = multistepGrid(schedule, steps, spacing, stepsOffset, karras, end);
  return {
    timesteps,
    initNoiseSigma: 1,
    steps: timesteps.map((timestep, i) => {
      const from = levels[i]!;
      const to = levels[i + 1]!;
      const width = logSnr(to) - logSnr(from);
      const gain = -to.alpha * Math.expm1(-width);
      const isFirstOrder = i === 0 || (i === steps - 1 && (end === 0 || steps < STABLE_STEPS));
      // Half the ratio of this step's width to the previous one's: the weight of the difference of the predictions.
      const slope = isFirstOrder ? 0 : width / (logSnr(from) - logSnr(levels[i - 1]!)) / 2;
      return {
        level: from,
        timestep,
        inputScale: 1,
        prediction: samplePredictionAt(prediction, from),
        update: {
          sample: to.sigma / from.sigma,
          predictions: isFirstOrder ? [gain] : [gain * (1 + slope), -gain * slope],
          noise: 0,
        },
      };
    }),
  };
}
