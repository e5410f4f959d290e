import { InvalidArgumentError } from "../core/errors.js";
import { HALF_WASM_BASE64 } from "./half-wasm.js";
import { wasmModule } from "../core/wasm-module.js";

/**
 * Conversions between float32 and the two 16-bit formats: IEEE 754 binary16 (1 sign, 5 exponent, 10 mantissa bits)
 * and bfloat16 (1, 8, 7: the upper half of a float32). Encoding rounds to nearest, ties to even; values too large
 * become infinite; a NaN stays a (quiet) NaN. Decoding is exact.
 */

/** Elements that the kernel decodes at a time; its memory holds them before and after. */
const KERNEL_ELEMENTS = 2 ** 16;

interface Kernel {
  readonly patterns: Uint16Array;
  readonly values: Float32Array<ArrayBuffer>;
  /** Decodes the first `count` patterns, a multiple of 4. */
  decode(count: number): void;
}

/** null where WebAssembly or its vector instructions are missing or forbidden. */
let kernel: Kernel | null | undefined;

function startKernel(): Kernel | null {
  try {
    // The exports are exactly those of half.wat.
    const { memory, decodeFloat16 } = new WebAssembly.Instance(wasmModule(HALF_WASM_BASE64)).exports as unknown as {
      readonly memory: { readonly buffer: ArrayBuffer };
      readonly decodeFloat16: (patterns: number, values: number, count: number) => void;
    };
    const valuesAt = 2 * KERNEL_ELEMENTS;
    return {
      patterns: new Uint16Array(memory.buffer, 0, KERNEL_ELEMENTS),
      values: new Float32Array(memory.buffer, valuesAt, KERNEL_ELEMENTS),
      decode: (count) => decodeFloat16(0, valuesAt, count),
    };
  } catch {
    return null;
  }
}

/**
 * `encodeFloat16` of a tensor's finite numbers or an error.
 *
 * @param tensor what the message names, as `safetensors: the tensor "conv_in.weight"`
 * @throws InvalidArgumentError for a finite number beyond float16's range.
 */
export function encodeFloat16Checked(tensor: string, data: Float32Array): Uint16Array<ArrayBuffer> {
  // 65520 is the midpoint of the largest binary16 number, 65504, and the power of two above: from there on, infinity.
  const tooLarge = data.find((value) => Math.abs(value) >= 65520 && Math.abs(value) < Infinity);
  if (tooLarge !== undefined) {
    throw new InvalidArgumentError(`${tensor} holds ${tooLarge}, F16 ends at 65504. Store it as BF16 or F32.`);
  }
  return encodeFloat16(data);
}

/** binary16 bit patterns to float32, in new memory or in `values`, which has as many elements. */
export function decodeFloat16(
  patterns: Uint16Array,
  values = new Float32Array(patterns.length),
): Float32Array<ArrayBuffer> {
  kernel ??= startKernel();
  let done = 0;
  while (kernel && done + 4 <= patterns.length) {
    const count = Math.min(KERNEL_ELEMENTS, (patterns.length - done) & ~3);
    kernel.patterns.set(patterns.subarray(done, done + count));
    kernel.decode(count);
    values.set(kernel.values.subarray(0, count), done);
    done += count;
  }
  decodeOneByOne(patterns.subarray(done), values.subarray(done));
  return values;
}

function decodeOneByOne(patterns: Uint16Array, values: Float32Array): void {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < patterns.length; i++) {
    const pattern = patterns[i]!;
    const sign = (pattern & 0x8000) << 16;
    const magnitude = pattern & 0x7fff;
    if (magnitude >= 0x7c00) {
      bits[i] = sign | 0x7f800000 | ((magnitude & 0x3ff) << 13); // infinity or NaN
    } else if (magnitude >= 0x400) {
      bits[i] = sign | ((magnitude << 13) + (112 << 23)); // exponent bias 127 instead of 15
    } else {
      values[i] = magnitude * 2 ** -24; // subnormal
      bits[i] = bits[i]! | sign;
    }
  }
}

/** float32 to binary16 bit patterns. Magnitudes from 65520 on become infinite. */
export function encodeFloat16(values: Float32Array): Uint16Array<ArrayBuffer> {
  const patterns = new Uint16Array(values.length);
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < bits.length; i++) {
    const sign = (bits[i]! >>> 16) & 0x8000;
    const magnitude = bits[i]! & 0x7fffffff;
    let half: number;
    if (magnitude > 0x7f800000) {
      half = 0x7e00 | ((magnitude >>> 13) & 0x3ff); // NaN
    } else if (magnitude >= 0x47800000) {
      half = 0x7c00; // 65536 and more
    } else if (magnitude >= 0x38800000) {
      // Normal: 2^-14 and more. Adding just below half of the last place, plus 1 if that place is odd, rounds to
      // even; a carry runs into the exponent, and from 65520 on into that of infinity.
      half = (magnitude - (112 << 23) + 0xfff + ((magnitude >>> 13) & 1)) >>> 13;
    } else if (magnitude > 0x33000000) {
      // Subnormal: more than 2^-25, in units of 2^-24.
      const shift = 126 - (magnitude >>> 23);
      const mantissa = (magnitude & 0x7fffff) | 0x800000;
      half = (mantissa + (1 << (shift - 1)) - 1 + ((mantissa >>> shift) & 1)) >>> shift;
    } else {
      half = 0;
    }
    patterns[i] = sign | half;
  }
  return patterns;
}

/** bfloat16 bit patterns to float32, in new memory or in `values`, which has as many elements. */
export function decodeBfloat16(
  patterns: Uint16Array,
  values = new Float32Array(patterns.length),
): Float32Array<ArrayBuffer> {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < patterns.length; i++) bits[i] = patterns[i]! << 16;
  return values;
}

/** float32 to bfloat16 bit patterns. */
export function encodeBfloat16(values: Float32Array): Uint16Array<ArrayBuffer> {
  const patterns = new Uint16Array(values.length);
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < bits.length; i++) {
    const pattern = bits[i]!;
    const isNaN = (pattern & 0x7fffffff) > 0x7f800000;
    patterns[i] = isNaN ? (pattern >>> 16) | 0x40 : (pattern + 0x7fff + ((pattern >>> 16) & 1)) >>> 16;
  }
  return patterns;
}
