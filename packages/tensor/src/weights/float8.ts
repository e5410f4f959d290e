/**
 * The two formats of 8 bits that weights are stored in, by the OCP 8-bit Floating Point Specification:
 * E4M3 (1 sign, 4 exponent, 3 mantissa bits; no infinities, one NaN of each sign, up to 448) and E5M2 (1, 5, 2; infinities and NaNs as
 * in IEEE 754, up to 57344). Each of their values is a float32.
 * https://www.opencompute.org/documents/ocp-8-bit-floating-point-specification-ofp8-revision-1-0-2023-12-01-pdf-1
 */
export type Float8Format = "F8_E4M3" | "F8_E5M2";

const LAYOUTS = {
  F8_E4M3: { mantissaBits: 3, bias: 7 },
  F8_E5M2: { mantissaBits: 2, bias: 15 },
} as const;

const tables = new Map<Float8Format, Float32Array>();

/** Bytes of a format to float32, into `values`, which has as many elements. */
export function decodeFloat8(format: Float8Format, bytes: Uint8Array, values: Float32Array): void {
  let table = tables.get(format);
  if (table === undefined) {
    table = Float32Array.from({ length: 256 }, (_, byte) => valueOf(format, byte));
    tables.set(format, table);
  }
  for (let i = 0; i < bytes.length; i++) values[i] = table[bytes[i]!]!;
}

function valueOf(format: Float8Format, byte: number): number {
  const { mantissaBits, bias } = LAYOUTS[format];
  const sign = byte & 0x80 ? -1 : 1;
  const magnitude = byte & 0x7f;
  const exponent = magnitude >> mantissaBits;
  const fraction = (magnitude & (2 ** mantissaBits - 1)) / 2 ** mantissaBits;
  if (format === "F8_E4M3" && magnitude === 0x7f) return NaN;
  if (format === "F8_E5M2" && exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (exponent === 0 ? fraction * 2 ** (1 - bias) : (1 + fraction) * 2 ** (exponent - bias));
}
