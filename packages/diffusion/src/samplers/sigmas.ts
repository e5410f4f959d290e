import type { NoiseSchedule } from "../noise-schedule.js";
import { linspace } from "./timesteps.js";

/**
 * How the noise-to-signal ratios of a run are chosen: those of its timesteps, or between the largest and the smallest
 * by Equation 5 of arXiv:2206.00364 ("karras"), evenly in their logarithm ("exponential"),
 * or by the quantiles of the beta distribution with both parameters 0.6 ("beta", arXiv:2407.12173).
 */
export type SigmaSpacing = "timesteps" | "karras" | "exponential" | "beta";

export interface SigmaRange {
  /** Smallest and largest noise-to-signal ratio, where these are not those of the timesteps. Default: those of the schedule. */
  readonly sigmaMin?: number;
  readonly sigmaMax?: number;
}

/** What diffusers puts in place of abar where a schedule leaves no signal, so that the noise-to-signal ratio is 4096. */
const LEAST_SIGNAL = 2 ** -24;

/** The noise-to-signal ratio sigma / alpha at each training timestep, each operation rounded to float32 as in diffusers. */
export function trainingSigmas(schedule: NoiseSchedule): Float64Array {
  const { fround } = Math;
  return schedule.alphasCumprod.map((value) => {
    const signal = value === 0 ? LEAST_SIGNAL : value;
    return fround(Math.sqrt(fround(fround(1 - signal) / signal)));
  });
}

/** The table's value at a timestep that may lie between two entries, by linear interpolation; beyond its ends, the last entry. */
export function interpolate(table: Float64Array, position: number): number {
  const last = table.length - 1;
  const inside = Math.min(Math.max(position, 0), last);
  const below = Math.floor(inside);
  const above = Math.min(below + 1, last);
  return table[below]! + (table[above]! - table[below]!) * (inside - below);
}

/** Noise-to-signal ratios from the largest down. */
export function spacedSigmas(
  spacing: Exclude<SigmaSpacing, "timesteps">,
  from: number,
  to: number,
  steps: number,
): number[] {
  switch (spacing) {
    case "karras":
      return linspace(0, 1, steps).map((ramp) => {
        const largest = from ** (1 / KARRAS_RHO);
        return (largest + ramp * (to ** (1 / KARRAS_RHO) - largest)) ** KARRAS_RHO;
      });
    case "exponential":
      return linspace(Math.log(from), Math.log(to), steps).map(Math.exp);
    case "beta":
      return linspace(0, 1, steps).map((ramp) => to + betaQuantile(1 - ramp) * (from - to));
  }
}

/** rho of arXiv:2206.00364, Equation 5. */
const KARRAS_RHO = 7;

/** Both parameters of the distribution, diffusers' default. */
const BETA_PARAMETER = 0.6;

/** Where the beta distribution with both parameters 0.6 reaches a probability, by bisection of its distribution function. */
export function betaQuantile(probability: number): number {
  if (probability > 0.5) return 1 - betaQuantile(1 - probability);
  const target = probability * 2 * betaBelow(0.5);
  let low = 0;
  let high = 0.5;
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2;
    if (betaBelow(middle) < target) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

/**
 * The incomplete beta function, the integral of (t (1 - t))^(a - 1) from 0 to x <= 1/2, by its power series
 * (https://dlmf.nist.gov/8.17.E7), whose terms shrink at least by half.
 */
function betaBelow(x: number): number {
  const a = BETA_PARAMETER;
  let sum = 0;
  let coefficient = 1; // of x^n in (1 - x)^(a - 1)
  for (let n = 0; n < 60; n++) {
    sum += (coefficient * x ** n) / (a + n);
    coefficient *= (n + 1 - a) / (n + 1);
  }
  return x ** a * sum;
}

/** The timestep, between two entries, at which the table has this noise-to-signal ratio; linear in its logarithm. */
export function timestepOfSigma(table: Float64Array, sigma: number): number {
  let above = table.findIndex((value) => value > sigma);
  if (above === -1) above = table.length - 1;
  above = Math.max(above, 1);
  const low = Math.log(table[above - 1]!);
  const high = Math.log(table[above]!);
  const fraction = Math.min(Math.max((Math.log(sigma) - low) / (high - low), 0), 1);
  return above - 1 + fraction;
}
