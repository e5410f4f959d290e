import { describe, expect, it } from "vitest";
import { decodeFloat8, type Float8Format } from "./float8.js";

/**
 * The magnitudes in ascending order, which is that of their bytes, by adding steps: twice as many values as a mantissa has, subnormal
 * and of the least exponent, have the first step, and each further exponent's a step twice as large.
 */
function magnitudes(firstStep: number, perExponent: number): number[] {
  const values = [0];
  for (let step = firstStep; values.length < 128;) {
    values.push(values.at(-1)! + step);
    if (values.length > 2 * perExponent && values.length % perExponent === 1) step *= 2;
  }
  return values;
}

describe("decodeFloat8 gives each of the 256 values", () => {
  // Tables 1 and 2 of the specification: the smallest numbers are 2^-9 and 2^-16, the largest 448 and 57344.
  it.each<[Float8Format, number[], (magnitude: number) => number | undefined]>([
    ["F8_E4M3", magnitudes(2 ** -9, 8), (byte) => (byte === 0x7f ? NaN : undefined)],
    ["F8_E5M2", magnitudes(2 ** -16, 4), (byte) => (byte < 0x7c ? undefined : byte > 0x7c ? NaN : Infinity)],
  ])("of %s", (format, positive, special) => {
    const expected = Float32Array.from({ length: 256 }, (_, byte) => {
      const magnitude = special(byte & 0x7f) ?? positive[byte & 0x7f]!;
      return byte < 0x80 ? magnitude : -magnitude;
    });
    const values = new Float32Array(256);
    decodeFloat8(
      format,
      Uint8Array.from({ length: 256 }, (_, byte) => byte),
      values,
    );
    expect(values).toEqual(expected);
    expect(Object.is(values[0x80], -0)).toBe(true);
    const largest = values.filter(Number.isFinite).reduce((a, b) => Math.max(a, b));
    expect(largest).toBe(format === "F8_E4M3" ? 448 : 57344);
  });
});
