import { InvalidArgumentError, checkFields, tensorShape, unknownName, type Operand, type Ops } from "@sdxs/tensor";

export type BetaSchedule = "linear" | "scaled_linear" | "squaredcos_cap_v2";

export interface NoiseScheduleOptions {
  /** How beta grows with the timestep. Default "scaled_linear", that of Stable Diffusion. */
  readonly kind?: BetaSchedule;
  /** beta at timestep 0, for the linear kinds. Default 0.00085, that of Stable Diffusion. */
  readonly betaStart?: number;
  /** beta at the last timestep, for the linear kinds. Default 0.012, that of Stable Diffusion. */
  readonly betaEnd?: number;
  /** Number of timesteps. Default 1000, or that of `betas`. */
  readonly trainSteps?: number;
  /** beta at each timestep, above 0 and below 1, in place of a kind. */
  readonly betas?: readonly number[];
  /** Shift and scale sqrt(abar) so that the last timestep is pure noise (arXiv:2305.08891, Algorithm 1). Default false. */
  readonly zeroTerminalSnr?: boolean;
  /**
   * Round each operation to float32, as diffusers does: where beta is near 1, as at the last timesteps of cosine schedules and
   * of zero terminal SNR, that decides how much signal is left. Default "float64".
   */
  readonly precision?: "float32" | "float64";
}

/** The forward process: how much signal is left at each timestep. Float64, one value per timestep. */
export interface NoiseSchedule {
  readonly trainSteps: number;
  /** Variance of the noise added from timestep t - 1 to t. */
  readonly betas: Float64Array;
  /** abar_t, the product of 1 - beta up to and including t. */
  readonly alphasCumprod: Float64Array;
}

/**
 * How a noisy sample is mixed: x_t = alpha x_0 + sigma noise, with alpha = sqrt(abar_t) and sigma = sqrt(1 - abar_t).
 * Each is a number, or one value per sample [batch].
 */
export interface NoiseLevel<V> {
  readonly alpha: V;
  readonly sigma: V;
}

/**
 * The tables of a diffusion model's forward process, as diffusers computes them.
 *
 * Throws `InvalidArgumentError` for betas outside (0, 1) or not one for each timestep, or fewer than two timesteps.
 *
 * @example
 * const schedule = noiseSchedule(); // Stable Diffusion's
 * schedule.alphasCumprod[999]; // 0.00466
 */
export function noiseSchedule(options: NoiseScheduleOptions = {}): NoiseSchedule {
  const { kind = "scaled_linear", betaStart = 0.00085, betaEnd = 0.012 } = options;
  const { betas: given, trainSteps = given?.length ?? 1000 } = options;
  if (!Number.isInteger(trainSteps) || trainSteps < 2) {
    throw new InvalidArgumentError(
      `noiseSchedule: trainSteps must be a whole number of at least 2, got ${trainSteps}.`,
    );
  }
  if (!(betaStart > 0 && betaEnd < 1 && betaStart <= betaEnd)) {
    throw new InvalidArgumentError(
      `noiseSchedule: expected 0 < betaStart <= betaEnd < 1, got betaStart ${betaStart} and betaEnd ${betaEnd}.`,
    );
  }
  if (given && !(given.length === trainSteps && given.every((beta) => beta > 0 && beta < 1))) {
    throw new InvalidArgumentError(
      `noiseSchedule: expected ${trainSteps} betas between 0 and 1, one for each timestep, got ${given.length}` +
        `${given.length === trainSteps ? " with some beyond" : ""}.`,
    );
  }
  const round = options.precision === "float32" ? Math.fround : (value: number) => value;
  const betas = Float64Array.from({ length: trainSteps }, (_, t) => round(betaAt(t)));
  if (options.zeroTerminalSnr !== true) return { trainSteps, betas, alphasCumprod: cumulativeProduct(betas, round) };
  const rescaled = withoutTerminalSignal(betas, round);
  return { trainSteps, betas: rescaled, alphasCumprod: cumulativeProduct(rescaled, round) };

  function betaAt(t: number): number {
    if (given) return given[t]!;
    const progress = t / (trainSteps - 1);
    switch (kind) {
      case "linear":
        return betaStart + (betaEnd - betaStart) * progress;
      case "scaled_linear":
        return (Math.sqrt(betaStart) + (Math.sqrt(betaEnd) - Math.sqrt(betaStart)) * progress) ** 2;
      case "squaredcos_cap_v2":
        return Math.min(1 - squaredCosine((t + 1) / trainSteps) / squaredCosine(t / trainSteps), MAX_COSINE_BETA);
    }
    throw unknownName("noiseSchedule", "kind", kind, ["linear", "scaled_linear", "squaredcos_cap_v2"]);
  }
}

/** The cap and offset of "Improved Denoising Diffusion Probabilistic Models" (arXiv:2102.09672), Section 3.2. */
const MAX_COSINE_BETA = 0.999;
const squaredCosine = (progress: number): number => Math.cos(((progress + 0.008) / 1.008) * (Math.PI / 2)) ** 2;

type Rounding = (value: number) => number;

function cumulativeProduct(betas: Float64Array, round: Rounding): Float64Array {
  let product = 1;
  return betas.map((beta) => {
    product *= round(1 - beta);
    return round(product);
  });
}

/** arXiv:2305.08891, Algorithm 1. */
function withoutTerminalSignal(betas: Float64Array, round: Rounding): Float64Array {
  const signal = cumulativeProduct(betas, round).map((value) => round(Math.sqrt(value)));
  const first = signal[0]!;
  const last = signal.at(-1)!;
  const factor = round(first / round(first - last));
  const rescaled = signal.map((value) => round(round(round(value - last) * factor) ** 2));
  return rescaled.map((value, t) => round(1 - round(t === 0 ? value : value / rescaled[t - 1]!)));
}

/** Throws `InvalidArgumentError` for what `noiseSchedule` did not make. */
export function checkSchedule(where: string, schedule: NoiseSchedule): void {
  checkFields(where, "schedule", schedule, ["trainSteps", "betas", "alphasCumprod"]);
}

/** abar at a whole timestep. Throws `InvalidArgumentError` outside [0, trainSteps). */
export function alphaCumprodAt(schedule: NoiseSchedule, timestep: number): number {
  checkSchedule("noiseLevelAt", schedule);
  const value = schedule.alphasCumprod[timestep];
  if (value === undefined) {
    throw new InvalidArgumentError(
      `A timestep must be a whole number in [0, ${schedule.trainSteps}), got ${timestep}. Check the sampler's options.`,
    );
  }
  return value;
}

/** The mixture at one whole timestep. */
export function noiseLevelAt(schedule: NoiseSchedule, timestep: number): NoiseLevel<number> {
  const alphaCumprod = alphaCumprodAt(schedule, timestep);
  return { alpha: Math.sqrt(alphaCumprod), sigma: Math.sqrt(1 - alphaCumprod) };
}

/**
 * The mixture of each sample, gathered from the schedule's tables.
 *
 * @param timesteps whole timesteps [batch] in [0, trainSteps), int32 or float32
 * @returns alpha and sigma, float32 [batch]
 *
 * @example
 * const noisy = addNoise(ops, clean, noise, gatherNoiseLevels(ops, schedule, timesteps));
 */
export function gatherNoiseLevels<T>(ops: Ops<T>, schedule: NoiseSchedule, timesteps: T): NoiseLevel<T> {
  checkSchedule("gatherNoiseLevels", schedule);
  tensorShape(ops, "gatherNoiseLevels", "timesteps", timesteps);
  return {
    alpha: gatherTimesteps(ops, schedule.alphasCumprod.map(Math.sqrt), timesteps),
    sigma: gatherTimesteps(
      ops,
      schedule.alphasCumprod.map((value) => Math.sqrt(1 - value)),
      timesteps,
    ),
  };
}

/** Entries of a table with one value per timestep, float32 [batch]. Timesteps as in `gatherNoiseLevels`. */
export function gatherTimesteps<T>(ops: Ops<T>, table: ArrayLike<number>, timesteps: T): T {
  const indices = ops.dtype(timesteps) === "int32" ? timesteps : ops.cast(timesteps, "int32");
  return ops.gather(ops.constant(Float32Array.from(table), [table.length]), indices, 0);
}

/** A noise level whose values broadcast against samples of `rank` axes: [batch] becomes [batch, 1, ...]. */
export function broadcastLevel<T>(ops: Ops<T>, level: NoiseLevel<Operand<T>>, rank: number): NoiseLevel<Operand<T>> {
  const widen = (value: Operand<T>): Operand<T> =>
    typeof value === "number" ? value : ops.reshape(value, [-1, ...Array<number>(rank - 1).fill(1)]);
  return { alpha: widen(level.alpha), sigma: widen(level.sigma) };
}
