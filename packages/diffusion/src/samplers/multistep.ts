import type { NoiseLevel, NoiseSchedule } from "../noise-schedule.js";
import { samplePredictionAt, type LinearPrediction, type PredictionType } from "../prediction.js";
import type { SamplerStep } from "./plan.js";
import { interpolate, spacedSigmas, timestepOfSigma, trainingSigmas, type SigmaRange } from "./sigmas.js";
import { firstStep, linspace, roundHalfEven, trailingTimesteps, type SpacedOptions } from "./timesteps.js";

/** What the multistep solvers DPM-Solver, DEIS and UniPC take. */
export interface MultistepOptions extends SpacedOptions, SigmaRange {
  /** How many predictions a step uses, at most. Default 2. */
  readonly order?: 1 | 2 | 3;
  /**
   * How noise-to-signal ratios are spaced: by the timesteps, by Equation 5 of arXiv:2206.00364 ("karras"), or evenly in their
   * logarithm ("exponential"). Default "timesteps".
   */
  readonly sigmaSpacing?: "timesteps" | "karras" | "exponential";
  /** Take the last steps of a run of fewer than 15 by lower orders, for stability. Default true. */
  readonly lowerOrderFinal?: boolean;
}

/** Below this many steps the last ones are of lower order: the bound of the solvers' published code and of diffusers. */
const STABLE_STEPS = 15;

/** The timesteps and noise levels of each step of the multistep solvers, and those at the end. */
export interface MultistepGrid {
  /** Index of the first step to do. */
  readonly begin: number;
  readonly timesteps: readonly number[];
  /** steps + 1 mixtures. */
  readonly levels: readonly NoiseLevel<number>[];
}

/**
 * Timesteps and noise levels that the multistep solvers of diffusers use.
 *
 * @param end where the last step ends: without noise, at the schedule's first noise level, or at the smallest of the run's
 * @param lastTimestep the timesteps are chosen below it
 */
export function multistepGrid(
  sampler: string,
  schedule: NoiseSchedule,
  options: MultistepOptions,
  end: "zero" | "schedule" | "run",
  lastTimestep = schedule.trainSteps,
): MultistepGrid {
  const { steps, sigmaSpacing = "timesteps" } = options;
  const begin = firstStep(sampler, schedule.trainSteps, options);
  const table = trainingSigmas(schedule);
  let timesteps = multistepTimesteps(schedule, options, lastTimestep);
  let ratios = timesteps.map((timestep) => interpolate(table, timestep));
  let last = table[0]!;
  if (sigmaSpacing !== "timesteps") {
    const { sigmaMax = table.at(-1)!, sigmaMin = table[0]! } = options;
    ratios = spacedSigmas(sigmaSpacing, sigmaMax, sigmaMin, steps);
    timesteps = ratios.map((ratio) => roundHalfEven(timestepOfSigma(table, ratio)));
    if (end === "run") last = ratios.at(-1)!;
  }
  const levels = [...ratios, end === "zero" ? 0 : last].map((exact) => {
    const ratio = Math.fround(exact); // as in diffusers: solvers may multiply what is lost by the largest of them
    return { alpha: 1 / Math.hypot(ratio, 1), sigma: ratio / Math.hypot(ratio, 1) };
  });
  return { begin, timesteps, levels };
}

function multistepTimesteps(
  { trainSteps }: NoiseSchedule,
  { steps, spacing = "linspace", stepsOffset = 0 }: MultistepOptions,
  last: number,
): number[] {
  switch (spacing) {
    case "linspace": // steps + 1 points from 0, without 0 itself
      return linspace(0, last - 1, steps + 1)
        .map(roundHalfEven)
        .reverse()
        .slice(0, -1);
    case "leading": {
      const stride = Math.floor(last / (steps + 1));
      return Array.from({ length: steps }, (_, i) => (steps - i) * stride + stepsOffset);
    }
    case "trailing":
      return trailingTimesteps(last, trainSteps, steps);
  }
}

/** A step of a plan for each timestep from the first one to do. */
export function stepsOf(
  { begin, timesteps }: MultistepGrid,
  stepAt: (timestep: number, i: number) => SamplerStep,
): SamplerStep[] {
  return timesteps.slice(begin).map((timestep, done) => stepAt(timestep, begin + done));
}

/** Half the logarithm of the signal-to-noise ratio; infinite where no noise is left. */
export const logSnr = ({ alpha, sigma }: NoiseLevel<number>): number => Math.log(alpha) - Math.log(sigma);

/**
 * The order of step `i`: no more than there are predictions since the run began, of noise levels that differ. Towards the end
 * of a run of fewer than `stable` steps it falls to 1, where the options say so; a step that ends without noise has order 1.
 */
export function orderOf(
  { begin, levels }: MultistepGrid,
  i: number,
  { order = 2, lowerOrderFinal = true }: MultistepOptions,
  stable = STABLE_STEPS,
): number {
  const steps = levels.length - 1;
  let bound = Math.min(order, i - begin + 1);
  if (lowerOrderFinal && steps < stable) bound = Math.min(bound, steps - i);
  if (levels[i + 1]!.sigma === 0) bound = 1;
  return distinctNodes(levels, i, bound);
}

/** At most `order`, and as many as the levels at `i` and before it differ from each other. */
function distinctNodes(levels: readonly NoiseLevel<number>[], i: number, order: number): number {
  for (let back = 1; back < order; back++) {
    if (levels[i - back]!.sigma === levels[i - back + 1]!.sigma) return back;
  }
  return order;
}

/** (x - alpha x_0) / sigma in terms of x and the network's output. */
export function noisePredictionAt(type: PredictionType, level: NoiseLevel<number>): LinearPrediction {
  if (type === "epsilon") return { sample: 0, output: 1 };
  const clean = samplePredictionAt(type, level);
  return {
    sample: (1 - level.alpha * clean.sample) / level.sigma,
    output: (-level.alpha * clean.output) / level.sigma,
  };
}
