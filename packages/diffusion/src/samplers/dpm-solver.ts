import { checkSampler } from "./timesteps.js";
import { InvalidArgumentError } from "@sdxs/tensor";
import type { NoiseSchedule } from "../noise-schedule.js";
import { samplePredictionAt } from "../prediction.js";
import {
  logSnr,
  multistepGrid,
  noisePredictionAt,
  orderOf,
  stepsOf,
  type MultistepGrid,
  type MultistepOptions,
} from "./multistep.js";
import { finitePlan, type SamplerPlan } from "./plan.js";
import { trainingSigmas } from "./sigmas.js";

export interface DpmSolverOptions extends MultistepOptions {
  /**
   * DPM-Solver++ solves for x_0 (arXiv:2211.01095), DPM-Solver for the noise (arXiv:2206.00927); "sde" makes each step add
   * noise. Default "dpmsolver++".
   */
  readonly algorithm?: "dpmsolver++" | "sde-dpmsolver++" | "dpmsolver" | "sde-dpmsolver";
  /** Form of the second-order steps. Default "midpoint". */
  readonly solver?: "midpoint" | "heun";
  /** Noise level at the end: none, or that of timestep 0. Default "zero", as diffusers; solvers for the noise need "sigma_min". */
  readonly finalSigma?: "zero" | "sigma_min";
  /** Take the last step by order 1 in any case. Default false. */
  readonly eulerAtFinal?: boolean;
  /** Leave out timesteps whose log(alpha / sigma) is below this, as cosine schedules need. Default: none. */
  readonly leastLogSnr?: number;
}

/**
 * DPM-Solver++ and DPM-Solver, by multiple steps. By default DPM-Solver++(2M) (arXiv:2211.01095, Algorithm 2): the
 * second-order multistep sampler, midpoint form. The first step, and the last one of a short run or of one that ends without
 * noise, are of first order. It remembers x_0, or the noise for "dpmsolver" and "sde-dpmsolver".
 *
 * Throws `InvalidArgumentError` for a step count outside [1, trainSteps], and for options that exclude each other.
 *
 * @example
 * const plan = dpmSolver(noiseSchedule(), { steps: 25, sigmaSpacing: "karras" });
 */
export function dpmSolver(schedule: NoiseSchedule, options: DpmSolverOptions): SamplerPlan {
  checkSampler("dpmSolver", schedule, options);
  const { prediction = "epsilon", algorithm = "dpmsolver++", solver = "midpoint" } = options;
  const { order: highest, finalSigma = "zero", eulerAtFinal = false, leastLogSnr = -Infinity } = options;
  const isStochastic = algorithm.startsWith("sde");
  const solvesForNoise = !algorithm.endsWith("++");
  if (isStochastic && highest === 3) {
    throw new InvalidArgumentError(`dpmSolver: "${algorithm}" has order 1 or 2, got 3.`);
  }
  if (solvesForNoise && finalSigma === "zero") {
    throw new InvalidArgumentError(`dpmSolver: "${algorithm}" must end at finalSigma "sigma_min", got "zero".`);
  }
  const last = trainingSigmas(schedule).filter((sigma) => -Math.log(sigma) >= leastLogSnr).length;
  const grid = multistepGrid("dpmSolver", schedule, options, finalSigma === "zero" ? "zero" : "schedule", last);
  const { levels } = grid;
  const steps = stepsOf(grid, (timestep, i) => {
    const from = levels[i]!;
    const to = levels[i + 1]!;
    const h = logSnr(to) - logSnr(from);
    const isLast = i === levels.length - 2;
    const order = eulerAtFinal && isLast ? 1 : orderOf(grid, i, options);
    // x' = carry x + scale (phi_1 D_0 + phi_2 D_1 + phi_3 D_2) + noise: D_k are the derivatives of the prediction by
    // lambda / h, from finite differences, and z is the exponent by which the integral decays.
    const z = solvesForNoise ? h : isStochastic ? -2 * h : -h;
    const scale = -(solvesForNoise ? to.sigma * (isStochastic ? 2 : 1) : to.alpha);
    const carry = solvesForNoise ? to.alpha / from.alpha : (to.sigma / from.sigma) * (isStochastic ? Math.exp(-h) : 1);
    const weights = derivativeWeights(grid, i, order, solver, z).map((weight) => scale * weight);
    const noise = isStochastic ? to.sigma * Math.sqrt(Math.abs(Math.expm1(solvesForNoise ? 2 * h : -2 * h))) : 0;
    return {
      level: from,
      timestep,
      inputScale: 1,
      prediction: solvesForNoise ? noisePredictionAt(prediction, from) : samplePredictionAt(prediction, from),
      update: { sample: carry, predictions: weights, noise },
    };
  });
  return finitePlan("dpmSolver", 1, steps);
}

/** Weights of the predictions, the newest first, in phi_1 D_0 + phi_2 D_1 + phi_3 D_2. */
function derivativeWeights(
  { levels }: MultistepGrid,
  i: number,
  order: number,
  solver: "midpoint" | "heun",
  z: number,
): number[] {
  const width = (step: number): number => logSnr(levels[step + 1]!) - logSnr(levels[step]!);
  const phi1 = Math.expm1(z);
  if (order === 1 || z === 0) return [phi1];
  const phi2 = phi1 / z - 1;
  const r0 = width(i - 1) / width(i);
  if (order === 2) {
    const slope = (solver === "midpoint" ? phi1 / 2 : phi2) / r0;
    return [phi1 + slope, -slope];
  }
  const phi3 = phi2 / z - 1 / 2;
  const r1 = width(i - 2) / width(i);
  // D_1 = d_0 + r0 / (r0 + r1) (d_0 - d_1) and D_2 = (d_0 - d_1) / (r0 + r1), with the slopes d_0 and d_1 of the last two steps.
  const common = (phi2 * r0 + phi3) / (r0 + r1);
  const newer = (phi2 + common) / r0;
  const older = common / r1;
  return [phi1 + newer, -newer - older, older];
}
