import type { Node } from "../ir/node.js";

/** float32's smallest normal number: WGSL has no literals below. */
const SMALLEST = 2 ** -126;

/** A constant of one element in WGSL, or undefined where it has to be read from memory. */
export function literal({ op, data }: Node): string | undefined {
  if (op !== "constant" || data.length !== 1) return undefined;
  const value = data[0]!;
  if (data instanceof Uint8Array) return value === 0 ? "false" : "true";
  if (data instanceof Int32Array) return value === -(2 ** 31) ? "(-2147483647i - 1i)" : `${value}i`;
  if (!Number.isFinite(value) || (value !== 0 && Math.abs(value) < SMALLEST) || Object.is(value, -0)) return undefined;
  return `${value}f`;
}
