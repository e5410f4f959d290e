import type { NoiseLevel, NoiseSchedule } from "../noise-schedule.js";
import { samplePredictionAt, type LinearPrediction, type PredictionType } from "../prediction.js";
import { multistepGrid, STABLE_STEPS } from "./multistep.js";
import type { SamplerPlan } from "./plan.js";
import { checkSteps, trainingSigmas, type TimestepSpacing } from "./timesteps.js";

export interface DeisOptions {
  readonly steps: number;
  /** Default "epsilon". */
  readonly prediction?: PredictionType;
  /** Default "linspace", as diffusers. */
  readonly spacing?: TimestepSpacing;
  /** Added to each timestep of "leading". Default 0, as diffusers; Stable Diffusion's configurations say 1. */
  readonly stepsOffset?: number;
  /** Space the noise levels as arXiv:2206.00364 does. Default false. */
  readonly karras?: boolean;
}

/**
 * DEIS of second order (arXiv:2204.13902): the noise is extrapolated linearly in the logarithm of rho = sigma / alpha,
 * diffusers' solver type "logrho".
 * It ends at the noise level of timestep 0. The released SDXS-512-DreamShaper models are sampled by it in one step.
 *
 * Throws `InvalidArgumentError` for a step count outside [1, trainSteps].
 */
export function deis(schedule: NoiseSchedule, options: DeisOptions): SamplerPlan {
  const { steps, prediction = "epsilon", spacing = "linspace", stepsOffset = 0, karras = false } = options;
  checkSteps("deis", schedule, steps);
  const end = trainingSigmas(schedule)[0]!;
  const { timesteps, levels } = multistepGrid(schedule, steps, spacing, stepsOffset, karras, end);
  const rho = (i: number): number => levels[i]!.sigma / levels[i]!.alpha;
  return {
    timesteps,
    initNoiseSigma: 1,
    steps: timesteps.map((timestep, i) => {
      const from = levels[i]!;
      const to = levels[i + 1]!;
      const isFirstOrder = i === 0 || (i === steps - 1 && steps < STABLE_STEPS);
      // x' / alpha' = x / alpha + the integral over rho of the noise, interpolated through the remembered values.
      const weights = isFirstOrder
        ? [rho(i + 1) - rho(i)]
        : [
            integratedBasis(rho(i), rho(i + 1), rho(i), rho(i - 1)),
            integratedBasis(rho(i), rho(i + 1), rho(i - 1), rho(i)),
          ];
      return {
        level: from,
        timestep,
        inputScale: 1,
        prediction: noisePredictionAt(prediction, from),
        update: { sample: to.alpha / from.alpha, predictions: weights.map((weight) => to.alpha * weight), noise: 0 },
      };
    }),
  };
}

/** Integral from `from` to `to` of the function, linear in log(rho), that is 1 at `own` and 0 at `other`. */
function integratedBasis(from: number, to: number, own: number, other: number): number {
  const antiderivative = (rho: number): number => (rho * (Math.log(rho / other) - 1)) / Math.log(own / other);
  return antiderivative(to) - antiderivative(from);
}

/** (x - alpha x_0) / sigma in terms of x and the network's output. */
function noisePredictionAt(type: PredictionType, level: NoiseLevel<number>): LinearPrediction {
  if (type === "epsilon") return { sample: 0, output: 1 };
  const clean = samplePredictionAt(type, level);
  return {
    sample: (1 - level.alpha * clean.sample) / level.sigma,
    output: (-level.alpha * clean.output) / level.sigma,
  };
}
