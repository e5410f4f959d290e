import { InvalidArgumentError, type Random } from "@sdxs/tensor";

/** Numbers drawn one after the other from a stream: what comes next depends on what came before, and on nothing else. */
export interface Draws {
  /** In [0, 1). */
  next(): number;
  /** In [low, high). */
  between(low: number, high: number): number;
  /** True with this probability. */
  chance(probability: number): boolean;
  /** One of the items, which are not none; equally likely. */
  pick<Item>(items: readonly Item[]): Item;
  /** One of the names, by weights that need not sum to 1. */
  pickWeighted<Name extends string>(weights: Readonly<Record<Name, number>>): Name;
}

/** Random numbers that are drawn together: most scenes need fewer. */
const blockSize = 64;

export function drawsOf(stream: Random): Draws {
  let block = new Float32Array(0);
  let drawn = 0;
  const next = (): number => {
    const place = drawn++ % blockSize;
    if (place === 0) block = stream.at(drawn).uniform([blockSize]).data as Float32Array<ArrayBuffer>;
    return block[place]!;
  };
  return {
    next,
    between: (low, high) => low + (high - low) * next(),
    chance: (probability) => next() < probability,
    pick(items) {
      if (items.length === 0) throw new InvalidArgumentError("Draws.pick: expected at least one item, got none.");
      return items[Math.floor(next() * items.length)]!;
    },
    pickWeighted(weights) {
      const entries = Object.entries<number>(weights) as [keyof typeof weights, number][];
      let left = next() * entries.reduce((sum, [, weight]) => sum + weight, 0);
      for (const [name, weight] of entries) {
        left -= weight;
        if (left < 0) return name;
      }
      return entries.at(-1)![0];
    },
  };
}
