import { InvalidArgumentError, UnsupportedConfigError } from "@sdxs/tensor";
import { alphaCumprodAt, noiseLevelAt, type NoiseSchedule } from "../noise-schedule.js";
import { finitePlan, type LinearUpdate, type SamplerPlan, type SamplerStep } from "./plan.js";
import { checkSampler, firstStep, roundHalfEven, spacedTimesteps, type SpacedOptions } from "./timesteps.js";

export interface PndmOptions extends SpacedOptions {
  /** Added to each timestep of "leading". Default 1, as in Stable Diffusion's configurations. */
  readonly stepsOffset?: number;
  /** Begin without Runge-Kutta steps, as Stable Diffusion does. Default true. */
  readonly skipRungeKutta?: boolean;
  /** Whether the step past timestep 0 ends at abar = 1 (true) or at abar_0. Default false. */
  readonly endsClean?: boolean;
}

/** Weights of the noise predictions, the newest first, where so many are known (arXiv:2202.09778, Equation 12). */
const MULTISTEP_WEIGHTS = [
  [1],
  [3 / 2, -1 / 2],
  [23 / 12, -16 / 12, 5 / 12],
  [55 / 24, -59 / 24, 37 / 24, -9 / 24],
] as const;

/** Weights of a Runge-Kutta step's four calls of the network. */
const RUNGE_KUTTA_WEIGHTS = [1 / 6, 1 / 3, 1 / 3, 1 / 6] as const;

/**
 * PNDM (arXiv:2202.09778), by its linear multistep method: Stable Diffusion's first scheduler. The plan has steps + 1
 * entries, for so many calls of the network, since the first step is done twice; with Runge-Kutta steps, steps + 9.
 * It remembers the network's outputs; the base is the sample where a step began.
 *
 * Throws `InvalidArgumentError` for a step count outside [1, trainSteps], with Runge-Kutta steps [4, trainSteps], and
 * `UnsupportedConfigError` for a network that predicts the sample.
 */
export function pndm(schedule: NoiseSchedule, options: PndmOptions): SamplerPlan {
  checkSampler("pndm", schedule, options);
  const { steps, prediction = "epsilon", skipRungeKutta = true, endsClean = false } = options;
  if (prediction === "sample") {
    throw new UnsupportedConfigError(`pndm: the prediction must be "epsilon" or "v_prediction", got "sample".`);
  }
  if (!skipRungeKutta && steps < 4) {
    throw new InvalidArgumentError(`pndm: with Runge-Kutta steps at least 4 are needed, got ${steps}.`);
  }
  const { rungeKutta, timesteps } = pndmTimesteps(schedule, options);
  const stride = Math.floor(schedule.trainSteps / steps);
  const final = endsClean ? 1 : alphaCumprodAt(schedule, 0);

  /** From timestep `from` to `to`, beginning at the sample or at the base, by weighted outputs. */
  const transfer = (
    from: number,
    to: number,
    start: "sample" | "base",
    weights: readonly number[],
  ): SamplerStep["update"] => {
    const current = alphaCumprodAt(schedule, from);
    const next = to >= 0 ? alphaCumprodAt(schedule, to) : final;
    // The paper's Equation 9: x' = c x - d noise.
    const d = (next - current) / (current * Math.sqrt(1 - next) + Math.sqrt(current * (1 - current) * next));
    // noise = sqrt(abar) v + sqrt(1 - abar) x.
    const [ofOutput, ofSample] = prediction === "epsilon" ? [1, 0] : [Math.sqrt(current), Math.sqrt(1 - current)];
    const factor = Math.sqrt(next / current) - d * ofSample;
    const starts: Pick<LinearUpdate, "sample" | "base"> =
      start === "sample" ? { sample: factor } : { sample: 0, base: factor };
    return { ...starts, predictions: weights.map((weight) => -d * ofOutput * weight), noise: 0 };
  };

  const ages: number[] = []; // calls whose outputs the multistep method uses, as indices
  const plan = timesteps.map((timestep, call): SamplerStep => {
    const common = {
      level: noiseLevelAt(schedule, timestep),
      timestep,
      inputScale: 1,
      prediction: { sample: 0, output: 1 },
    };
    const begins: Pick<SamplerStep, "base"> = { base: { sample: 1, predictions: [] } };
    const phase = call % 4;
    if (call < rungeKutta.length) {
      const from = rungeKutta[call - phase]!;
      const to = phase % 2 === 1 ? timestep : timestep - Math.floor(stride / 2);
      if (phase === 0) {
        ages.push(call);
        return { ...common, update: transfer(from, to, "sample", [1]), ...begins };
      }
      const weights = phase === 3 ? RUNGE_KUTTA_WEIGHTS : [1];
      return { ...common, update: transfer(from, to, "base", weights) };
    }
    // The first step again, by the mean of its slopes at both ends; what this call gives is not remembered.
    if (call === 1) return { ...common, update: transfer(timestep + stride, timestep, "base", [1 / 2, 1 / 2]) };
    ages.push(call);
    const known = ages.slice(-4).reverse();
    const weights = Array<number>(call - known.at(-1)! + 1).fill(0);
    known.forEach((index, age) => (weights[call - index] = MULTISTEP_WEIGHTS[known.length - 1]![age]!));
    return { ...common, update: transfer(timestep, timestep - stride, "sample", weights), ...(call === 0 && begins) };
  });
  return finitePlan("pndm", 1, plan);
}

/** Timesteps of each call of the network, and those of them that are Runge-Kutta steps of a whole run. */
function pndmTimesteps(
  schedule: NoiseSchedule,
  options: PndmOptions,
): { readonly rungeKutta: readonly number[]; readonly timesteps: readonly number[] } {
  const { steps, spacing = "leading", stepsOffset = 1, skipRungeKutta = true } = options;
  const begin = firstStep("pndm", schedule.trainSteps, options);
  const spaced = spacedTimesteps(schedule, steps, spacing, stepsOffset).map(roundHalfEven);
  if (skipRungeKutta) {
    const [first, second, ...rest] = spaced;
    const timesteps = second === undefined ? spaced : [first!, second, second, ...rest];
    return { rungeKutta: [], timesteps: timesteps.slice(begin) };
  }
  const half = Math.floor(Math.floor(schedule.trainSteps / steps) / 2);
  const rungeKutta = [0, 1, 2].flatMap((i) => {
    const to = spaced[i + 1]!;
    return [spaced[i]!, to + half, to + half, to];
  });
  return { rungeKutta, timesteps: [...rungeKutta, ...spaced.slice(3)].slice(begin) };
}
