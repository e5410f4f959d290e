/**
 * Files for any batch or image size. A program is traced with numbers, so an open size is traced as a large prime times its
 * declared multiple: every size that follows from open ones by products has their primes as factors, and is written as that
 * product of the inputs' sizes.
 */
import { InvalidArgumentError } from "../core/errors.js";
import type { Shape } from "../core/host-tensor.js";

/** A shape whose sizes may be left open: a name stands for any size, the same wherever it occurs. */
export type OpenShape = readonly (number | string)[];

/** A size as a fraction of open ones: the product of those named, times `factor`, divided by `divisor`. */
export interface OpenSize {
  readonly names: readonly string[];
  readonly factor: number;
  readonly divisor: number;
}

/** Chosen: above the other factors of any axis of known networks, and the product of three is exact in a number. */
const FIRST_PRIME = 1009;

/** Numbers that stand for open sizes while a program is traced. */
export class OpenSizes {
  private readonly standIns: ReadonlyMap<string, { readonly prime: number; readonly multiple: number }>;

  /**
   * @param shapes of the inputs
   * @param multiples see `ExportOnnxOptions`
   * @param avoid sizes that no prime may divide
   * @param skipped primes to leave out: another number gives other stand-ins
   */
  constructor(
    shapes: readonly OpenShape[],
    multiples: Readonly<Record<string, number>>,
    avoid: readonly number[],
    skipped = 0,
  ) {
    const names = [...new Set(shapes.flat().filter((size) => typeof size === "string"))];
    for (const [name, multiple] of Object.entries(multiples)) {
      if (names.includes(name) && Number.isInteger(multiple) && multiple > 0) continue;
      throw new InvalidArgumentError(
        `exportOnnx: multiples must be whole numbers of at least 1 by the names of open sizes (${names.join(", ")}), ` +
          `got "${name}": ${multiple}.`,
      );
    }
    const primes = primesFrom(FIRST_PRIME, skipped, avoid);
    this.standIns = new Map(
      names.map((name) => [name, { prime: primes.next().value, multiple: multiples[name] ?? 1 }]),
    );
  }

  /** The shape to trace with. */
  closed(shape: OpenShape): Shape {
    return shape.map((size) => {
      if (typeof size === "number") return size;
      const { prime = 1, multiple = 1 } = this.standIns.get(size) ?? {};
      return prime * multiple;
    });
  }

  /** The open sizes in a number of the trace; undefined where it has none. */
  meaning(size: number): OpenSize | undefined {
    const names: string[] = [];
    let [factor, divisor] = [size, 1];
    for (const [name, { prime, multiple }] of this.standIns) {
      while (factor > 0 && factor % prime === 0) {
        names.push(name);
        factor /= prime;
        divisor *= multiple;
      }
    }
    if (names.length === 0) return undefined;
    const common = greatestCommonDivisor(factor, divisor);
    return { names, factor: factor / common, divisor: divisor / common };
  }
}

/** "height", "8*height", "batch*height/2". */
export function openSizeName({ names, factor, divisor }: OpenSize): string {
  const product = [...(factor === 1 ? [] : [factor]), ...names].join("*");
  return divisor === 1 ? product : `${product}/${divisor}`;
}

function* primesFrom(first: number, skipped: number, avoid: readonly number[]): Generator<number, never> {
  for (let candidate = first, left = skipped; ; candidate += 2) {
    if (!isPrime(candidate) || avoid.some((size) => size > 0 && size % candidate === 0)) continue;
    if (left-- <= 0) yield candidate;
  }
}

function isPrime(odd: number): boolean {
  for (let divisor = 3; divisor * divisor <= odd; divisor += 2) if (odd % divisor === 0) return false;
  return true;
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}
