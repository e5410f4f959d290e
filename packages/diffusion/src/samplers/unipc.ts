import { checkSampler } from "./timesteps.js";
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
import { finitePlan, type LinearUpdate, type SamplerPlan, type SamplerStep } from "./plan.js";

export interface UnipcOptions extends MultistepOptions {
  /** B(h) of the paper: h or e^h - 1. Default "bh2". */
  readonly variant?: "bh1" | "bh2";
  /** Solve for x_0, as DPM-Solver++, or for the noise. Default true. */
  readonly solvesForSample?: boolean;
  /** Steps, counted from 0, after which the sample is not corrected. Default: none. */
  readonly disabledCorrections?: readonly number[];
  /** Noise level at the end: none, or that of timestep 0. Default "sigma_min", as the paper's code. */
  readonly finalSigma?: "zero" | "sigma_min";
}

/**
 * UniPC (arXiv:2302.04867, Algorithms 5 and 6): each call of the network corrects the sample that it saw, then predicts
 * the next one. It remembers x_0, or the noise with `solvesForSample: false`; the base is the corrected sample.
 *
 * Throws `InvalidArgumentError` for a step count outside [1, trainSteps].
 */
export function unipc(schedule: NoiseSchedule, options: UnipcOptions): SamplerPlan {
  checkSampler("unipc", schedule, options);
  const { prediction = "epsilon", variant = "bh2", solvesForSample = true, disabledCorrections = [] } = options;
  const { finalSigma = "sigma_min" } = options;
  const grid = multistepGrid("unipc", schedule, options, finalSigma === "zero" ? "zero" : "run");
  const { begin, timesteps, levels } = grid;
  const orders = timesteps.map((_, i) => orderOf(grid, i, options, Infinity));
  const steps = stepsOf(grid, (timestep, i): SamplerStep => {
    const from = levels[i]!;
    let corrected: LinearUpdate = { sample: 1, predictions: [] };
    if (i > begin && !disabledCorrections.includes(i - 1)) {
      const { carry, weights } = transferWeights(grid, i - 1, orders[i - 1]!, variant, solvesForSample, "corrector");
      corrected = { sample: 0, base: carry, predictions: weights };
    }
    const { carry, weights } = transferWeights(grid, i, orders[i]!, variant, solvesForSample, "predictor");
    const ages = Array.from({ length: Math.max(weights.length, corrected.predictions.length) }, (_, age) => age);
    return {
      level: from,
      timestep,
      inputScale: 1,
      prediction: solvesForSample ? samplePredictionAt(prediction, from) : noisePredictionAt(prediction, from),
      update: {
        sample: carry * corrected.sample,
        base: carry * (corrected.base ?? 0),
        predictions: ages.map((age) => carry * (corrected.predictions[age] ?? 0) + (weights[age] ?? 0)),
        noise: 0,
      },
      base: corrected,
    };
  });
  return finitePlan("unipc", 1, steps);
}

/**
 * Step `i` as a linear combination: `carry` of the sample, and the weights of the predictions, the newest first. The
 * corrector knows that of the step's end as well, which comes first.
 */
function transferWeights(
  { levels }: MultistepGrid,
  i: number,
  order: number,
  variant: "bh1" | "bh2",
  solvesForSample: boolean,
  kind: "predictor" | "corrector",
): { readonly carry: number; readonly weights: readonly number[] } {
  const from = levels[i]!;
  const to = levels[i + 1]!;
  const h = logSnr(to) - logSnr(from);
  const z = solvesForSample ? -h : h;
  const scale = -(solvesForSample ? to.alpha : to.sigma);
  const carry = solvesForSample ? to.sigma / from.sigma : to.alpha / from.alpha;
  const ownWeight = scale * Math.expm1(z);
  const isPredictor = kind === "predictor";
  if (h === 0) return { carry, weights: isPredictor ? [0] : [0, 0] };
  if (isPredictor && order === 1) return { carry, weights: [ownWeight] };

  // Where the other predictions stand, in step widths from the step's beginning; the step's end is at 1.
  const others = Array.from({ length: order - 1 }, (_, k) => (logSnr(levels[i - k - 1]!) - logSnr(from)) / h);
  const nodes = isPredictor ? others : [1, ...others];
  // With one node the paper's code takes 1/2 in place of the solution, and so does diffusers.
  const b = variant === "bh1" ? z : Math.expm1(z);
  const shares = nodes.length === 1 ? [1 / 2] : solveVandermonde(nodes, phiSeries(z, nodes.length, b));
  // scale B(h) times the sum of share (m_k - m_0) / node.
  const weights = shares.map((share, k) => (scale * b * share) / nodes[k]!);
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return isPredictor
    ? { carry, weights: [ownWeight - total, ...weights] }
    : { carry, weights: [weights[0]!, ownWeight - total, ...weights.slice(1)] };
}

/** k! h phi_(k+1)(z) / B(h) for k = 1 to `count` (the paper's Equation 8). */
function phiSeries(z: number, count: number, b: number): number[] {
  const values: number[] = [];
  let phi = Math.expm1(z) / z - 1;
  let factorial = 1;
  for (let k = 1; k <= count; k++) {
    values.push((phi * factorial) / b);
    factorial *= k + 1;
    phi = phi / z - 1 / factorial;
  }
  return values;
}

/** Solves sum over j of nodes[j]^k x[j] = right[k] for k = 0, 1, ..., for two or three distinct nodes. */
function solveVandermonde(nodes: readonly number[], right: readonly number[]): number[] {
  return nodes.map((node, own) => {
    // x[own] is the right side applied to the coefficients of the polynomial that is 1 at `node` and 0 at the others.
    const others = nodes.filter((_, index) => index !== own);
    const [c = 0, d = 0] = others;
    const coefficients = others.length === 1 ? [-c, 1] : [c * d, -(c + d), 1];
    const scale = others.reduce((product, other) => product * (node - other), 1);
    return coefficients.reduce((sum, coefficient, k) => sum + coefficient * right[k]!, 0) / scale;
  });
}
