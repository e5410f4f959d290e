import { InvalidArgumentError } from "@sdxs/tensor";
import type { NoiseSchedule } from "../noise-schedule.js";

/**
 * How a sampler's timesteps are chosen from the training ones; the names and results are those of diffusers
 * (see Table 2 of arXiv:2305.08891). "trailing" begins at the last timestep whatever the number of steps.
 */
export type TimestepSpacing = "linspace" | "leading" | "trailing";

/** Throws `InvalidArgumentError` unless `steps` is a whole number in [1, trainSteps]. */
export function checkSteps(sampler: string, schedule: NoiseSchedule, steps: number): void {
  if (!Number.isInteger(steps) || steps < 1 || steps > schedule.trainSteps) {
    throw new InvalidArgumentError(
      `${sampler}: the number of steps must be a whole number in [1, ${schedule.trainSteps}], got ${steps}.`,
    );
  }
}

/** Rounds halves to the even neighbour, as NumPy does. */
export function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const fraction = value - floor;
  if (fraction !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}

/** `count` numbers from `from` to `to`, both included; only `from` if `count` is 1. */
export function linspace(from: number, to: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => (count === 1 ? from : from + ((to - from) * i) / (count - 1)));
}

/** Timesteps from the last one down in equal strides of trainSteps / steps, rounded. */
export function trailingTimesteps(schedule: NoiseSchedule, steps: number): number[] {
  const stride = schedule.trainSteps / steps;
  return Array.from({ length: steps }, (_, i) => roundHalfEven(schedule.trainSteps - i * stride) - 1);
}

/** The noise-to-signal ratio sigma / alpha at each training timestep. */
export function trainingSigmas(schedule: NoiseSchedule): Float64Array {
  return schedule.alphasCumprod.map((value) => Math.sqrt((1 - value) / value));
}

/** The table's value at a timestep that may lie between two entries, by linear interpolation. */
export function interpolate(table: Float64Array, position: number): number {
  const below = Math.min(Math.max(Math.floor(position), 0), table.length - 1);
  const above = Math.min(below + 1, table.length - 1);
  return table[below]! + (table[above]! - table[below]!) * (position - below);
}

/** rho of arXiv:2206.00364, Equation 5. */
const KARRAS_RHO = 7;

/** Noise-to-signal ratios of arXiv:2206.00364, Equation 5, from the largest down. */
export function karrasSigmas(largest: number, smallest: number, steps: number): number[] {
  return linspace(largest ** (1 / KARRAS_RHO), smallest ** (1 / KARRAS_RHO), steps).map((root) => root ** KARRAS_RHO);
}

/** The timestep, between two entries, at which the table has this noise-to-signal ratio; linear in its logarithm. */
export function timestepOfSigma(table: Float64Array, sigma: number): number {
  let above = table.findIndex((value) => value >= sigma);
  if (above === -1) above = table.length - 1;
  above = Math.max(above, 1);
  const low = Math.log(table[above - 1]!);
  const high = Math.log(table[above]!);
  const fraction = Math.min(Math.max((Math.log(sigma) - low) / (high - low), 0), 1);
  return above - 1 + fraction;
}
