import type { Operand } from "./ops.js";

/** The operations that sine and cosine are computed from: those of `Ops`, or of a graph under construction. */
export interface SineOps<T> {
  add(a: Operand<T>, b: Operand<T>): T;
  sub(a: Operand<T>, b: Operand<T>): T;
  mul(a: Operand<T>, b: Operand<T>): T;
  floor(x: T): T;
}

/**
 * Pi as a sum of 8 bits, 11 bits and the rest (Cody and Waite 1980), so that the first two times a whole number or a
 * half below 2^12 are exact in float32.
 */
const PI_HIGH = 201 / 64;
const PI_MIDDLE = 2029 / 2 ** 21;
const PI_LOW = Math.PI - PI_HIGH - PI_MIDDLE;

/**
 * Coefficients of the Taylor series of (sin(r) - r) / r from r^10 down to r^2. What it leaves out of sin(r) is below
 * 6e-8 for |r| <= pi/2.
 */
const [LAST, ...SERIES] = [-1 / 39916800, 1 / 362880, -1 / 5040, 1 / 120, -1 / 6] as const;

/**
 * sin(x) to 2e-7 for |x| < 2^12 pi, from operations that every GPU rounds correctly. WGSL promises of its own `sin` an
 * error of at most 2^-11, and that for |x| <= pi only, while angles of timesteps go up to 1000.
 */
export function sine<T>(ops: SineOps<T>, x: T): T {
  const turns = ops.floor(ops.add(ops.mul(x, 1 / Math.PI), 0.5));
  return ops.mul(ops.sub(1, ops.mul(isOdd(ops, turns), 2)), sineOfRest(ops, x, turns));
}

/** cos(x), as precise as `sine`. */
export function cosine<T>(ops: SineOps<T>, x: T): T {
  const turns = ops.floor(ops.mul(x, 1 / Math.PI));
  return ops.mul(ops.sub(ops.mul(isOdd(ops, turns), 2), 1), sineOfRest(ops, x, ops.add(turns, 0.5)));
}

/** 1 where a whole number is odd, else 0. */
function isOdd<T>(ops: SineOps<T>, n: T): T {
  return ops.sub(n, ops.mul(ops.floor(ops.mul(n, 0.5)), 2));
}

/** sin(x - turns * pi), which lies within pi/2 of 0. */
function sineOfRest<T>(ops: SineOps<T>, x: T, turns: T): T {
  const rest = [PI_HIGH, PI_MIDDLE, PI_LOW].reduce((left, part) => ops.sub(left, ops.mul(turns, part)), x);
  const square = ops.mul(rest, rest);
  let series = ops.mul(square, LAST);
  for (const coefficient of SERIES) series = ops.mul(ops.add(series, coefficient), square);
  return ops.add(rest, ops.mul(rest, series));
}
