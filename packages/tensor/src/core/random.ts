import { InvalidArgumentError } from "./errors.js";
import { HostTensor, sizeOf, type Shape } from "./host-tensor.js";

/** One element of a stream's path: a word for the purpose of the numbers, or a counter (a whole number). */
export type StreamName = string | number;

/**
 * A source of random numbers without state: the numbers depend on the seed and the stream's path alone,
 * so the same call gives the same numbers again. Take a substream with `at` for every new use.
 */
export interface Random {
  /**
   * The independent stream below this one. `random(1).at("noise", 7)`, `random(1, "noise", 7)` and
   * `random(1).at("noise").at(7)` are the same stream; `at(7)` and `at("7")` are different ones.
   */
  at(...stream: readonly StreamName[]): Random;
  /** float32, uniform in [0, 1), multiples of 2^-24. */
  uniform(shape: Shape): HostTensor;
  /** float32, normal with mean 0 and standard deviation 1. No number lies beyond 6.67, the limit of 32 random bits. */
  normal(shape: Shape): HostTensor;
  /** int32, uniform in [low, high), without bias. */
  integers(shape: Shape, low: number, high: number): HostTensor;
  /** The numbers 0 to n - 1 in random order; every order is equally likely. */
  permutation(n: number): Int32Array<ArrayBuffer>;
}

/**
 * Seeded random numbers, the same bits on every machine, JavaScript engine and tensor backend.
 *
 * Philox 4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") turns a counter
 * and a key into 128 random bits. Seed and path choose the key and the upper half of the counter, the kind of
 * number and the position choose the lower half. Normal numbers use additions, multiplications, divisions and square
 * roots only, which IEEE 754 fixes to the last bit, and not `Math.log` or `Math.cos`, which engines may round
 * differently.
 *
 * @param seed Any whole number or text.
 * @param stream The purpose of the numbers, for example `"noise"` and the number of the training step.
 * @throws InvalidArgumentError where a number in the path is not a safe integer.
 *
 * @example
 * const stepRandom = random(42, "train").at(step);
 * const noise = stepRandom.at("noise").normal([8, 4, 16, 16]);
 * const timesteps = stepRandom.at("timesteps").integers([8], 0, 1000);
 */
export function random(seed: StreamName, ...stream: readonly StreamName[]): Random {
  return fromState(derive(derive(ROOT, [seed]), stream));
}

/** Philox's key and the upper half of its counter. */
interface StreamState {
  readonly key0: number;
  readonly key1: number;
  readonly counter2: number;
  readonly counter3: number;
}

const ROOT: StreamState = { key0: 0, key1: 0, counter2: 0, counter3: 0 };

/** Second word of the counter: keeps the uses of one stream apart. The values only have to differ. */
const Use = {
  uniform: 0,
  normal: 1,
  integers: 2,
  permutation: 3,
  numberLow: 4,
  numberHigh: 5,
  textLength: 6,
  textUnit: 7,
} as const;

function fromState(state: StreamState): Random {
  return {
    at: (...stream) => fromState(derive(state, stream)),
    uniform(shape) {
      const data = new Float32Array(sizeOf(shape));
      const block = new Int32Array(4);
      for (let start = 0, index = 0; start < data.length; start += 4, index++) {
        philox4x32(block, index, Use.uniform, state.counter2, state.counter3, state.key0, state.key1);
        for (let lane = 0; lane < 4 && start + lane < data.length; lane++) {
          // The upper 24 bits: as many as a float32 below 1 holds without rounding up to 1.
          data[start + lane] = (block[lane]! >>> 8) * 2 ** -24;
        }
      }
      return new HostTensor(shape, data);
    },
    normal: (shape) => new HostTensor(shape, normals(state, sizeOf(shape))),
    integers(shape, low, high) {
      if (!Number.isInteger(low) || !Number.isInteger(high) || low >= high || low < -(2 ** 31) || high > 2 ** 31) {
        throw new InvalidArgumentError(
          `Random.integers: needs whole numbers with -2^31 <= low < high <= 2^31, got low ${low} and high ${high}.`,
        );
      }
      const nextBelow = below(state, Use.integers);
      const data = new Int32Array(sizeOf(shape));
      for (let i = 0; i < data.length; i++) data[i] = low + nextBelow(high - low);
      return new HostTensor(shape, data);
    },
    permutation(n) {
      if (!Number.isInteger(n) || n < 0 || n > 2 ** 31) {
        throw new InvalidArgumentError(`Random.permutation: needs a whole number from 0 to 2^31, got ${n}.`);
      }
      const nextBelow = below(state, Use.permutation);
      const order = Int32Array.from({ length: n }, (_, i) => i);
      // Fisher-Yates, from the end.
      for (let last = n - 1; last > 0; last--) {
        const chosen = nextBelow(last + 1);
        const moved = order[last]!;
        order[last] = order[chosen]!;
        order[chosen] = moved;
      }
      return order;
    },
  };
}

/** The state below `state`: one Philox call per 32 bits of path, each of them a bijection of what it absorbs. */
function derive(state: StreamState, stream: readonly StreamName[]): StreamState {
  let current = state;
  const block = new Int32Array(4);
  const absorb = (word: number, use: number): void => {
    philox4x32(block, word, use, current.counter2, current.counter3, current.key0, current.key1);
    current = { key0: block[0]!, key1: block[1]!, counter2: block[2]!, counter3: block[3]! };
  };
  for (const name of stream) {
    if (typeof name === "string") {
      absorb(name.length, Use.textLength);
      for (let i = 0; i < name.length; i++) absorb(name.charCodeAt(i), Use.textUnit);
    } else {
      if (!Number.isSafeInteger(name)) {
        throw new InvalidArgumentError(
          `random: a seed or stream number must be a whole number of at most 2^53 - 1, got ${name}. ` +
            `Use a text for anything else.`,
        );
      }
      absorb(name | 0, Use.numberLow);
      absorb(Math.floor(name / 2 ** 32), Use.numberHigh);
    }
  }
  return current;
}

/** Whole numbers in [0, limit) from the stream's words; words beyond the last full multiple of `limit` are skipped. */
function below(state: StreamState, use: number): (limit: number) => number {
  const block = new Int32Array(4);
  let drawn = 0;
  return (limit) => {
    const accepted = 2 ** 32 - (2 ** 32 % limit);
    for (;;) {
      const lane = drawn & 3;
      if (lane === 0) {
        philox4x32(block, drawn / 4, use, state.counter2, state.counter3, state.key0, state.key1);
      }
      drawn++;
      const word = block[lane]! >>> 0;
      if (word < accepted) return word % limit;
    }
  };
}

/** Box and Muller (1958): two uniform numbers give two independent normal ones. float64, rounded to float32 once. */
function normals(state: StreamState, count: number): Float32Array<ArrayBuffer> {
  const data = new Float32Array(count);
  const block = new Int32Array(4);
  const pair = new Float64Array(2);
  for (let start = 0, index = 0; start < count; start += 4, index++) {
    philox4x32(block, index, Use.normal, state.counter2, state.counter3, state.key0, state.key1);
    boxMuller(pair, block[0]!, block[1]!);
    // Writes beyond the end of a typed array are ignored.
    data[start] = pair[0]!;
    data[start + 1] = pair[1]!;
    boxMuller(pair, block[2]!, block[3]!);
    data[start + 2] = pair[0]!;
    data[start + 3] = pair[1]!;
  }
  return data;
}

/**
 * Two normal numbers from two random words: radius sqrt(-2 ln u), u = (radiusWord + 1) / 2^32 in (0, 1],
 * and angle 2 pi angleWord / 2^32. Exported for the tests.
 */
export function boxMuller(out: Float64Array, radiusWord: number, angleWord: number): void {
  // ln u = exponent ln 2 + ln m with m in [1, 2) or, to centre on 1, in [0.75, 1.5).
  const u = (radiusWord >>> 0) + 1;
  let exponent = u === 2 ** 32 ? 32 : 31 - Math.clz32(u);
  let mantissa = u / (exponent === 32 ? 2 ** 32 : (1 << exponent) >>> 0);
  if (mantissa >= 1.5) {
    mantissa /= 2;
    exponent++;
  }
  // ln m = 2 artanh s, |s| <= 1/5; the first term left out is below 1e-13.
  const s = (mantissa - 1) / (mantissa + 1);
  const s2 = s * s;
  const artanh =
    s * (1 + s2 * (1 / 3 + s2 * (1 / 5 + s2 * (1 / 7 + s2 * (1 / 9 + s2 * (1 / 11 + s2 * (1 / 13 + s2 * (1 / 15))))))));
  const radius = Math.sqrt(-2 * ((exponent - 32) * Math.LN2 + 2 * artanh));

  // The angle's nearest quarter turn, and what remains, in [-pi / 4, pi / 4).
  const quarter = ((angleWord >>> 29) + 1) >>> 1;
  const a = ((angleWord - (quarter << 30)) | 0) * RADIANS_PER_WORD;
  const a2 = a * a;
  // Taylor series; the first terms left out are below 2e-15.
  const sine =
    a *
    (1 -
      a2 *
        (1 / 6) *
        (1 -
          a2 *
            (1 / 20) *
            (1 -
              a2 *
                (1 / 42) *
                (1 - a2 * (1 / 72) * (1 - a2 * (1 / 110) * (1 - a2 * (1 / 156) * (1 - a2 * (1 / 210))))))));
  const cosine =
    1 -
    a2 *
      (1 / 2) *
      (1 -
        a2 *
          (1 / 12) *
          (1 -
            a2 * (1 / 30) * (1 - a2 * (1 / 56) * (1 - a2 * (1 / 90) * (1 - a2 * (1 / 132) * (1 - a2 * (1 / 182)))))));
  const odd = (quarter & 1) === 1;
  const x = odd ? -sine : cosine;
  const y = odd ? cosine : sine;
  const turned = (quarter & 2) === 2 ? -radius : radius;
  out[0] = turned * x;
  out[1] = turned * y;
}

/** The angle of a full turn divided among 2^32 words. */
const RADIANS_PER_WORD = (2 * Math.PI) / 2 ** 32;

/**
 * Philox 4x32 with 10 rounds: 128 random bits from a counter of four words and a key of two. Words are int32.
 * Constants of Salmon et al. 2011: the multipliers 0xD2511F53 and 0xCD9E8D57, and the key's increments 0x9E3779B9
 * (golden ratio) and 0xBB67AE85 (sqrt(3) - 1).
 */
export function philox4x32(
  out: Int32Array,
  counter0: number,
  counter1: number,
  counter2: number,
  counter3: number,
  key0: number,
  key1: number,
): void {
  let c0 = counter0 | 0;
  let c1 = counter1 | 0;
  let c2 = counter2 | 0;
  let c3 = counter3 | 0;
  let k0 = key0 | 0;
  let k1 = key1 | 0;
  for (let round = 0; round < 10; round++) {
    // Upper half of each 32 x 32 bit product, by products of 16-bit halves.
    const low0 = c0 & 0xffff;
    const high0 = c0 >>> 16;
    const crossA0 = Math.imul(0xd251, low0);
    const crossB0 = Math.imul(0x1f53, high0);
    const carry0 = (Math.imul(0x1f53, low0) >>> 16) + (crossA0 & 0xffff) + (crossB0 & 0xffff);
    const upper0 = Math.imul(0xd251, high0) + (crossA0 >>> 16) + (crossB0 >>> 16) + (carry0 >>> 16);

    const low2 = c2 & 0xffff;
    const high2 = c2 >>> 16;
    const crossA2 = Math.imul(0xcd9e, low2);
    const crossB2 = Math.imul(0x8d57, high2);
    const carry2 = (Math.imul(0x8d57, low2) >>> 16) + (crossA2 & 0xffff) + (crossB2 & 0xffff);
    const upper2 = Math.imul(0xcd9e, high2) + (crossA2 >>> 16) + (crossB2 >>> 16) + (carry2 >>> 16);

    const lower0 = Math.imul(0xd2511f53, c0);
    const lower2 = Math.imul(0xcd9e8d57, c2);
    c0 = upper2 ^ c1 ^ k0;
    c1 = lower2;
    c2 = upper0 ^ c3 ^ k1;
    c3 = lower0;
    k0 = (k0 + 0x9e3779b9) | 0;
    k1 = (k1 + 0xbb67ae85) | 0;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}
