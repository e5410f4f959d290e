import { InvalidArgumentError } from "../core/errors.js";

/** The learning rate of an update. `step` counts completed updates: 0 before the first. */
export type Schedule = (step: number) => number;

export interface WarmupOptions {
  /** The learning rate at the end of the warm-up. */
  readonly rate: number;
  /** Updates during which the rate rises linearly from 0. Default 0: none. */
  readonly warmupSteps?: number;
}

export interface DecayOptions extends WarmupOptions {
  /** Updates in all, warm-up included; from here on the rate stays at `finalRate`. */
  readonly totalSteps: number;
  /** Default 0. */
  readonly finalRate?: number;
}

/** Always the same rate. */
export function constantSchedule(rate: number): Schedule {
  checkRate("constantSchedule", "rate", rate);
  return () => rate;
}

/**
 * `rate * step / warmupSteps`, then `rate`: diffusers' "constant_with_warmup". The first update's rate is 0.
 *
 * @example
 * const schedule = warmupSchedule({ rate: 1e-4, warmupSteps: 100 });
 * schedule(50); // 5e-5
 */
export function warmupSchedule(options: WarmupOptions): Schedule {
  const { rate, warmupSteps } = checkWarmup("warmupSchedule", options);
  return (step) => (step < warmupSteps ? (rate * step) / warmupSteps : rate);
}

/** Warm-up, then half a cosine from `rate` to `finalRate`: diffusers' "cosine" where `finalRate` is 0. */
export function cosineSchedule(options: DecayOptions): Schedule {
  return decaySchedule("cosineSchedule", options, (progress) => (1 + Math.cos(Math.PI * progress)) / 2);
}

export interface PolynomialOptions extends DecayOptions {
  /** Default 1, a straight line. */
  readonly power?: number;
}

/** Warm-up, then `(1 - progress) ** power` from `rate` to `finalRate`: diffusers' "polynomial". */
export function polynomialSchedule(options: PolynomialOptions): Schedule {
  const { power = 1 } = options;
  if (!(power > 0 && power < Infinity)) {
    throw new InvalidArgumentError(`polynomialSchedule: power must be a finite number above 0, got ${power}.`);
  }
  return decaySchedule("polynomialSchedule", options, (progress) => (1 - progress) ** power);
}

/** `share` maps progress in [0, 1] to the share of (rate - finalRate) that is left. */
function decaySchedule(caller: string, options: DecayOptions, share: (progress: number) => number): Schedule {
  const { rate, warmupSteps } = checkWarmup(caller, options);
  const { totalSteps, finalRate = 0 } = options;
  checkRate(caller, "finalRate", finalRate);
  if (!(totalSteps > warmupSteps && totalSteps < Infinity)) {
    throw new InvalidArgumentError(
      `${caller}: totalSteps includes the warm-up and must exceed warmupSteps (${warmupSteps}), got ${totalSteps}.`,
    );
  }
  return (step) => {
    if (step < warmupSteps) return (rate * step) / warmupSteps;
    const progress = Math.min(1, (step - warmupSteps) / (totalSteps - warmupSteps));
    return finalRate + (rate - finalRate) * share(progress);
  };
}

function checkWarmup(caller: string, options: WarmupOptions): Required<WarmupOptions> {
  const { rate, warmupSteps = 0 } = options;
  checkRate(caller, "rate", rate);
  if (!(warmupSteps >= 0 && warmupSteps < Infinity)) {
    throw new InvalidArgumentError(`${caller}: warmupSteps must be a finite number of at least 0, got ${warmupSteps}.`);
  }
  return { rate, warmupSteps };
}

function checkRate(caller: string, name: string, rate: number): void {
  if (!(rate >= 0 && rate < Infinity)) {
    throw new InvalidArgumentError(`${caller}: ${name} must be a finite number of at least 0, got ${rate}.`);
  }
}
