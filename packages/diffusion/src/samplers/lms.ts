import { checkSampler } from "./timesteps.js";
import type { NoiseSchedule } from "../noise-schedule.js";
import { finitePlan, type SamplerPlan } from "./plan.js";
import { atSigma, cleanFromRatio, sigmaGrid, type SigmaOptions } from "./sigma-grid.js";

/** The order of diffusers' sampler and of the code that it follows. */
const LMS_ORDER = 4;

/**
 * A linear multistep method of fourth order (Adams-Bashforth with the steps' own widths) on the probability-flow ODE in the
 * variance-exploding form. It remembers the slope (x - x_0) / sigma.
 *
 * Where image-to-image begins, the weights of missing slopes are left out, as diffusers does.
 * Throws `InvalidArgumentError` for a step count outside [1, trainSteps].
 */
export function lms(schedule: NoiseSchedule, options: SigmaOptions): SamplerPlan {
  checkSampler("lms", schedule, options);
  const { prediction = "epsilon" } = options;
  const { begin, timesteps, sigmas, initNoiseSigma } = sigmaGrid("lms", schedule, options);
  const steps = timesteps.map((timestep, i) => {
    const sigma = sigmas[i]!;
    const clean = cleanFromRatio(prediction, sigma);
    const nodes = distinct(sigmas.slice(Math.max(0, i + 1 - LMS_ORDER), i + 1).reverse());
    const weights = nodes.map((_, own) => integratedLagrange(nodes, own, sigma, sigmas[i + 1]!));
    return {
      ...atSigma(sigma),
      timestep,
      prediction: { sample: (1 - clean.sample) / sigma, output: -clean.output / sigma },
      update: { sample: 1, predictions: weights.slice(0, i - begin + 1), noise: 0 },
    };
  });
  return finitePlan("lms", initNoiseSigma, steps.slice(begin));
}

/** As many of the first nodes as differ from each other: an interpolation needs distinct ones. */
function distinct(nodes: readonly number[]): readonly number[] {
  const equal = nodes.findIndex((node, i) => i > 0 && node === nodes[i - 1]);
  return equal === -1 ? nodes : nodes.slice(0, equal);
}

/** Integral from `from` to `to` of the polynomial that is 1 at node `own` and 0 at the others, exact up to degree 3. */
function integratedLagrange(nodes: readonly number[], own: number, from: number, to: number): number {
  const value = (x: number): number =>
    nodes.reduce((product, node, k) => (k === own ? product : (product * (x - node)) / (nodes[own]! - node)), 1);
  const middle = (from + to) / 2;
  return ((to - from) / 6) * (value(from) + 4 * value(middle) + value(to)); // Simpson's rule
}
