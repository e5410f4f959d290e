import { behaviourCases } from "./conformance/behaviours.js";
import type { ConformanceAdapter } from "./conformance/adapter.js";
import type { ConformanceCase, Finding } from "./conformance/case.js";
import { nonFiniteCases } from "./conformance/non-finite.js";
import { operationCases } from "./conformance/operations.js";
import { trainingCases } from "./conformance/training.js";

export { fromBackend, type ConformanceAdapter } from "./conformance/adapter.js";
export type { ConformanceCase, Finding } from "./conformance/case.js";

export interface ConformanceResult extends Finding {
  /** Name of the case. */
  readonly case: string;
  readonly ok: boolean;
}

export interface ConformanceOptions {
  /** Which cases to run. Default: all. */
  readonly only?: (name: string) => boolean;
}

/**
 * All cases: every operation's value against the reference in double precision, gradients and second derivatives
 * against numerical differences, NaN and infinities, conventions, element types, errors, repeatability and leaks; and, of backends, parameters in training.
 */
export function conformanceCases(): readonly ConformanceCase[] {
  return [...operationCases(), ...nonFiniteCases(), ...behaviourCases(), ...trainingCases()];
}

/** Runs one case. What the adapter throws becomes part of the result. */
export async function runCase(adapter: ConformanceAdapter, one: ConformanceCase): Promise<ConformanceResult> {
  try {
    const { worstError, tolerance, message } = await one.check(adapter);
    const allowed = tolerance * (adapter.toleranceFactor ?? 1);
    const ok = worstError <= allowed;
    return { case: one.name, ok, worstError, tolerance: allowed, message: ok ? "" : message };
  } catch (error) {
    const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return { case: one.name, ok: false, worstError: Infinity, tolerance: 0, message };
  }
}

/**
 * Tests an implementation of `Ops` against the suite: what to run first when writing an adapter.
 * Needs no test runner; in one, make a test of each case with `runCase`.
 *
 * @example
 * const results = await runConformance(fromBackend(backend));
 * for (const { case: name, message } of results.filter(({ ok }) => !ok)) console.error(`${name}: ${message}`);
 */
export async function runConformance(
  adapter: ConformanceAdapter,
  { only = () => true }: ConformanceOptions = {},
): Promise<ConformanceResult[]> {
  const results: ConformanceResult[] = [];
  for (const one of conformanceCases()) if (only(one.name)) results.push(await runCase(adapter, one));
  return results;
}
