import { checkSampler } from "./timesteps.js";
import type { NoiseSchedule } from "../noise-schedule.js";
import { multistepGrid, noisePredictionAt, orderOf, stepsOf, type MultistepOptions } from "./multistep.js";
import { finitePlan, type SamplerPlan } from "./plan.js";

/**
 * DEIS (arXiv:2204.13902): the noise is extrapolated in the logarithm of rho = sigma / alpha, by default linearly, which is
 * diffusers' solver type "logrho". It remembers the noise.
 * It ends at the noise level of timestep 0. The released SDXS-512-DreamShaper models are sampled by it in one step.
 *
 * Throws `InvalidArgumentError` for a step count outside [1, trainSteps].
 */
export function deis(schedule: NoiseSchedule, options: MultistepOptions): SamplerPlan {
  checkSampler("deis", schedule, options);
  const { prediction = "epsilon" } = options;
  const grid = multistepGrid("deis", schedule, options, "run");
  const { levels } = grid;
  const rho = (i: number): number => levels[i]!.sigma / levels[i]!.alpha;
  const steps = stepsOf(grid, (timestep, i) => {
    const from = levels[i]!;
    const to = levels[i + 1]!;
    const nodes = Array.from({ length: orderOf(grid, i, options) }, (_, age) => Math.log(rho(i - age)));
    // x' / alpha' = x / alpha + the integral over rho of the noise, interpolated through the remembered values.
    const weights = nodes.map((_, own) => to.alpha * integratedBasis(rho(i), rho(i + 1), nodes, own));
    return {
      level: from,
      timestep,
      inputScale: 1,
      prediction: noisePredictionAt(prediction, from),
      update: { sample: to.alpha / from.alpha, predictions: weights, noise: 0 },
    };
  });
  return finitePlan("deis", 1, steps);
}

/** Integral from `from` to `to` of the polynomial in log(rho) that is 1 at node `own` and 0 at the others. */
function integratedBasis(from: number, to: number, nodes: readonly number[], own: number): number {
  const others = nodes.filter((_, index) => index !== own);
  const scale = others.reduce((product, other) => product * (nodes[own]! - other), 1);
  const [c = 0, d = 0] = others;
  // Antiderivatives of 1, log(rho) - c and (log(rho) - c) (log(rho) - d).
  const antiderivative = (rho: number): number => {
    const log = Math.log(rho);
    if (others.length === 0) return rho;
    if (others.length === 1) return rho * (log - 1 - c);
    return rho * (log ** 2 - 2 * log + 2 - (c + d) * (log - 1) + c * d);
  };
  return (antiderivative(to) - antiderivative(from)) / scale;
}
