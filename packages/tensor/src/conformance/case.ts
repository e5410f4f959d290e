import type { ErrorCode, SdxsError } from "../core/errors.js";
import { sameShape, show } from "../core/shapes.js";
import type { HostTensor } from "../core/host-tensor.js";
import type { TensorMap } from "../core/ops.js";
import type { Program } from "../core/program.js";
import type { ConformanceAdapter } from "./adapter.js";

/** What a check found. */
export interface Finding {
  /** Largest absolute difference, relative to the largest expected element or 1; Infinity where something else is wrong. */
  readonly worstError: number;
  readonly tolerance: number;
  /** What is wrong; empty where nothing is. */
  readonly message: string;
}

export interface ConformanceCase {
  /** Unique; a phrase, as "gradient of conv2d with stride 2". */
  readonly name: string;
  /** Unexpected errors of the adapter are passed on. */
  check(adapter: ConformanceAdapter): Promise<Finding>;
}

export const passed: Finding = { worstError: 0, tolerance: 0, message: "" };
export const failed = (message: string): Finding => ({ worstError: Infinity, tolerance: 0, message });

/** Compares names, shapes, element types and values. */
export function compare(actual: TensorMap<HostTensor>, expected: TensorMap<HostTensor>, tolerance: number): Finding {
  const names = (tensors: TensorMap<HostTensor>): string => Object.keys(tensors).sort().join(", ");
  if (names(actual) !== names(expected)) return failed(`results: expected ${names(expected)}, got ${names(actual)}`);
  let worstError = 0;
  let message = "";
  for (const [name, want] of Object.entries(expected)) {
    const got = actual[name] as HostTensor;
    if (!sameShape(got.shape, want.shape)) {
      return failed(`${name}: expected shape ${show(want.shape)}, got ${show(got.shape)}`);
    }
    if (got.dtype !== want.dtype) return failed(`${name}: expected ${want.dtype}, got ${got.dtype}`);
    const scale = Array.from(want.data)
      .filter(Number.isFinite)
      .reduce((largest, value) => Math.max(largest, Math.abs(value)), 1);
    Array.from(want.data).forEach((value, i) => {
      const other = got.data[i] as number;
      const error = Object.is(value, other) ? 0 : Math.abs(value - other) / scale;
      // A NaN is never within the tolerance.
      if (error <= worstError) return;
      worstError = Number.isNaN(error) ? Infinity : error;
      if (!(error <= tolerance)) message = `${name}, element ${i}: expected ${value}, got ${other}`;
    });
  }
  return { worstError, tolerance, message };
}

/** A case with one program and known results. */
export function known(
  name: string,
  tensors: { readonly params?: TensorMap<HostTensor>; readonly inputs?: TensorMap<HostTensor> },
  program: Program,
  expected: TensorMap<HostTensor>,
  tolerance = 0,
): ConformanceCase {
  return {
    name,
    check: async (adapter) =>
      compare(await adapter.evaluate(program, tensors.params ?? {}, tensors.inputs ?? {}), expected, tolerance),
  };
}

/** A case whose program must be rejected with this code. */
export function rejected(
  name: string,
  code: ErrorCode,
  inputs: TensorMap<HostTensor>,
  program: Program,
): ConformanceCase {
  return {
    name,
    async check(adapter) {
      try {
        await adapter.evaluate(program, {}, inputs);
      } catch (error) {
        // Not instanceof: the class may come from another copy of the package.
        const actual = (error as Partial<SdxsError>).code;
        return actual === code ? passed : failed(`expected an error with code ${code}, got ${String(error)}`);
      }
      return failed(`expected an error with code ${code}, got a result`);
    },
  };
}
