import { describe, expect, it, vi } from "vitest";
import { decodeBfloat16, decodeFloat16, encodeBfloat16, encodeFloat16 } from "./half.js";

const allPatterns = Uint16Array.from({ length: 65536 }, (_, i) => i);

/** The formats' definition (IEEE 754-2019, section 3.4): sign, biased exponent, mantissa. */
function valueOf(pattern: number, exponentBits: number, mantissaBits: number): number {
  const sign = pattern & 0x8000 ? -1 : 1;
  const exponent = (pattern >> mantissaBits) & (2 ** exponentBits - 1);
  const fraction = (pattern & (2 ** mantissaBits - 1)) / 2 ** mantissaBits;
  const bias = 2 ** (exponentBits - 1) - 1;
  if (exponent === 2 ** exponentBits - 1) return fraction === 0 ? sign * Infinity : NaN;
  return exponent === 0 ? sign * fraction * 2 ** (1 - bias) : sign * (1 + fraction) * 2 ** (exponent - bias);
}

/** The float32 numbers just below and just above a positive one. */
function neighbours(value: number): [number, number] {
  const bits = new Uint32Array(Float32Array.of(value).buffer);
  const [at = 0] = bits;
  const [below = 0, above = 0] = new Float32Array(Uint32Array.of(at - 1, at + 1).buffer);
  return [below, above];
}

it("decodes whatever number of patterns, over several fillings of the kernel's memory", () => {
  const patterns = Uint16Array.from({ length: 2 * 65536 + 7 }, (_, i) => (i * 40503) & 0x7bff);
  const decoded = decodeFloat16(patterns);
  expect(patterns.findIndex((pattern, i) => decoded[i] !== valueOf(pattern, 5, 10))).toBe(-1);
  for (const length of [0, 1, 3, 4, 5]) {
    expect([...decodeFloat16(patterns.subarray(1, 1 + length))]).toEqual([...decoded.subarray(1, 1 + length)]);
  }
});

it("decodes where WebAssembly is forbidden", async () => {
  vi.resetModules();
  vi.stubGlobal("WebAssembly", undefined);
  const { decodeFloat16: decodeAlone } = await import("./half.js");
  expect([...decodeAlone(allPatterns)]).toEqual([...decodeFloat16(allPatterns)]);
  vi.unstubAllGlobals();
});

describe.each([
  { name: "binary16", exponentBits: 5, mantissaBits: 10, decode: decodeFloat16, encode: encodeFloat16 },
  { name: "bfloat16", exponentBits: 8, mantissaBits: 7, decode: decodeBfloat16, encode: encodeBfloat16 },
])("$name", ({ exponentBits, mantissaBits, decode, encode }) => {
  const infinity = 0x7fff & ~(2 ** mantissaBits - 1);

  it("decodes each of the 65536 patterns to the value that IEEE 754's layout gives it", () => {
    const decoded = decode(allPatterns);
    const wrong = [...allPatterns].filter((pattern) => {
      return !Object.is(decoded[pattern], valueOf(pattern, exponentBits, mantissaBits));
    });
    expect(wrong).toEqual([]);
  });

  it("encodes each representable number to its own pattern, and each NaN to a NaN of the same sign", () => {
    const encoded = encode(decode(allPatterns));
    const wrong = [...allPatterns].filter((pattern) => {
      const isNaN = (pattern & 0x7fff) > infinity;
      const now = encoded[pattern] ?? 0;
      return isNaN ? (now & 0x7fff) <= infinity || (now & 0x8000) !== (pattern & 0x8000) : now !== pattern;
    });
    expect(wrong).toEqual([]);
  });

  it("rounds the midpoint of any two neighbours to the even one, and the numbers beside it to the nearer one", () => {
    const wrong: number[] = [];
    for (let lower = 0; lower < infinity; lower++) {
      const a = valueOf(lower, exponentBits, mantissaBits);
      // Above the largest finite number stands, for rounding, the number that one more exponent would give.
      const step = a - valueOf(Math.max(lower - 1, 0), exponentBits, mantissaBits);
      const b = lower + 1 === infinity ? a + step : valueOf(lower + 1, exponentBits, mantissaBits);
      const middle = (a + b) / 2;
      const [below, above] = neighbours(middle);
      const even = lower % 2 === 0 ? lower : lower + 1;
      const got = encode(Float32Array.of(middle, below, above, -middle));
      const expected = [even, lower, lower + 1, even | 0x8000];
      if (expected.some((pattern, i) => got[i] !== pattern)) wrong.push(lower);
    }
    expect(wrong).toEqual([]);
  });

  it("encodes numbers beyond the range, infinities and zeros of both signs", () => {
    const values = Float32Array.of(3.4028234663852886e38, -3.4028234663852886e38, Infinity, -Infinity, 0, -0);
    expect([...encode(values)]).toEqual([infinity, infinity | 0x8000, infinity, infinity | 0x8000, 0, 0x8000]);
  });

  it("encodes a part of a larger buffer", () => {
    const whole = Float32Array.of(1, 2, 3, 4);
    expect([...decode(encode(whole.subarray(1, 3)))]).toEqual([2, 3]);
  });
});

it("agrees with NumPy 2.4 on a few hand-picked float16 conversions", () => {
  // numpy.array(values, numpy.float32).astype(numpy.float16).view(numpy.uint16)
  const values = Float32Array.of(0.1, 65504, 65519.996, 65520, 2 ** -24, 2 ** -25, 3.1415927);
  expect([...encodeFloat16(values)]).toEqual([0x2e66, 0x7bff, 0x7bff, 0x7c00, 0x0001, 0x0000, 0x4248]);
});
