import { describe, expect, it } from "vitest";
import { boxMuller, philox4x32, random } from "./random.js";

describe("philox4x32", () => {
  // Random123 1.14.0, tests/kat_vectors, the lines "philox4x32 10".
  it.each([
    ["zeros", [0, 0, 0, 0, 0, 0], [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]],
    ["ones", Array<number>(6).fill(0xffffffff), [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]],
    [
      "the digits of pi",
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0],
      [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
    ],
  ])("gives Random123's published words for %s", (_, words, expected) => {
    const [c0 = 0, c1 = 0, c2 = 0, c3 = 0, k0 = 0, k1 = 0] = words;
    const out = new Int32Array(4);
    philox4x32(out, c0, c1, c2, c3, k0, k1);
    expect([...new Uint32Array(out.buffer)]).toEqual(expected);
  });
});

describe("boxMuller", () => {
  it("gives sqrt(-2 ln u) times the cosine and sine of the angle, to 1e-12", () => {
    const words = random(5).integers([2, 20000], -(2 ** 31), 2 ** 31).data;
    const edges = [0, 1, -1, -2, 2 ** 30, 2 ** 29, 2 ** 29 - 1, -(2 ** 31), 2 ** 31 - 1, -(2 ** 30), -(2 ** 29)];
    const out = new Float64Array(2);
    let worst = 0;
    const check = (radiusWord: number, angleWord: number): void => {
      boxMuller(out, radiusWord, angleWord);
      const radius = Math.sqrt(-2 * Math.log(((radiusWord >>> 0) + 1) / 2 ** 32));
      const angle = (2 * Math.PI * (angleWord >>> 0)) / 2 ** 32;
      worst = Math.max(
        worst,
        Math.abs(out[0]! - radius * Math.cos(angle)),
        Math.abs(out[1]! - radius * Math.sin(angle)),
      );
    };
    for (let i = 0; i < 20000; i++) check(words[i]!, words[20000 + i]!);
    for (const a of edges) for (const b of edges) check(a, b);
    expect(worst).toBeLessThan(1e-12);
  });
});

describe("random", () => {
  it("gives the same numbers each time it is asked", () => {
    const stream = random(42, "noise", 3);
    expect(stream.normal([2, 5]).data).toEqual(stream.normal([2, 5]).data);
    expect(random(42, "noise", 3).uniform([9]).data).toEqual(stream.uniform([9]).data);
  });

  it("keeps giving the numbers that checkpoints and recorded results rely on", () => {
    // Computed from the definition by a separate program in Python's integers and math module.
    const stream = random(42, "noise", 3);
    expect([...stream.uniform([5]).data]).toEqual([
      0.6211219429969788, 0.6083167791366577, 0.8791338205337524, 0.3616199493408203, 0.9046743512153625,
    ]);
    expect([...stream.normal([5]).data]).toEqual([
      -0.14050695300102234, -1.1317425966262817, -3.124812126159668, -0.6509456038475037, 1.2184779644012451,
    ]);
    expect([...stream.integers([8], -5, 7).data]).toEqual([4, 6, 1, 4, 5, 0, 2, 0]);
    expect([...stream.permutation(8)]).toEqual([0, 1, 2, 4, 5, 6, 3, 7]);
    expect([...random("seed", -(2 ** 40)).uniform([2]).data]).toEqual([0.49903786182403564, 0.4397968649864197]);
  });

  it("names one stream by any way of splitting its path", () => {
    const expected = random(1, "a", 7, "b").uniform([4]).data;
    expect(random(1).at("a", 7, "b").uniform([4]).data).toEqual(expected);
    expect(random(1).at("a").at(7).at("b").uniform([4]).data).toEqual(expected);
  });

  it("gives different numbers for different seeds, paths, and kinds of path", () => {
    const streams = [
      random(0),
      random(1),
      random(-1),
      random(2 ** 32),
      random("0"),
      random(""),
      random(0, ""),
      random(0, 0),
      random(0, 1),
      random(0, "1"),
      random(0, "ab"),
      random(0, "a", "b"),
      random(0, "ba"),
      random(0, 0, 0),
    ];
    const firsts = streams.map((stream) => stream.normal([1]).item());
    expect(new Set(firsts).size).toBe(streams.length);
  });

  it("begins a longer tensor with the numbers of a shorter one", () => {
    const stream = random(3);
    expect(stream.normal([101]).data.slice(0, 7)).toEqual(stream.normal([7]).data);
    expect(stream.uniform([101]).data.slice(0, 7)).toEqual(stream.uniform([7]).data);
    expect(stream.integers([101], 0, 10).data.slice(0, 7)).toEqual(stream.integers([7], 0, 10).data);
  });

  it("gives uniform numbers in [0, 1) with the mean and variance of that distribution", () => {
    const { data } = random(11).uniform([1_000_000]);
    const { mean, variance, min, max } = moments(data);
    expect(min).toBeGreaterThanOrEqual(0);
    expect(max).toBeLessThan(1);
    // Four standard errors: 4 * sqrt(1/12) / 1000 and 4 * sqrt(1/180) / 1000.
    expect(Math.abs(mean - 1 / 2)).toBeLessThan(1.2e-3);
    expect(Math.abs(variance - 1 / 12)).toBeLessThan(3e-4);
  });

  it("gives normal numbers with the first four moments of that distribution, and uncorrelated neighbours", () => {
    const { data } = random(12).normal([1_000_000]);
    const { mean, variance } = moments(data);
    let third = 0;
    let fourth = 0;
    let neighbours = 0;
    for (let i = 0; i < data.length; i++) {
      third += data[i]! ** 3 / data.length;
      fourth += data[i]! ** 4 / data.length;
      neighbours += (data[i]! * (data[i + 1] ?? 0)) / data.length;
    }
    // Four standard errors: 4 / 1000 times 1, sqrt(2), sqrt(15), sqrt(96) and 1.
    expect(Math.abs(mean)).toBeLessThan(4e-3);
    expect(Math.abs(variance - 1)).toBeLessThan(5.7e-3);
    expect(Math.abs(third)).toBeLessThan(15.5e-3);
    expect(Math.abs(fourth - 3)).toBeLessThan(39.2e-3);
    expect(Math.abs(neighbours)).toBeLessThan(4e-3);
  });

  it("gives integers of which each value is equally frequent, also in ranges that do not divide 2^32", () => {
    const counts = new Map<number, number>();
    for (const value of random(13).integers([70_000], -3, 4).data) counts.set(value, (counts.get(value) ?? 0) + 1);
    expect([...counts.keys()].sort((a, b) => a - b)).toEqual([-3, -2, -1, 0, 1, 2, 3]);
    // Chi-squared with 6 degrees of freedom lies below 22.5 with probability 0.999.
    const chiSquared = [...counts.values()].reduce((sum, count) => sum + (count - 10_000) ** 2 / 10_000, 0);
    expect(chiSquared).toBeLessThan(22.5);
    // Taking the remainder of every word would put 2/3 of these in the lower half, not 1/2.
    const wide = random(14).integers([10_000], 0, 3 * 2 ** 29).data;
    const lower = wide.filter((value) => value < 3 * 2 ** 28).length;
    expect(Math.abs(lower - 5000)).toBeLessThan(200);
  });

  it("covers the whole of int32", () => {
    const { data, dtype } = random(15).integers([1000], -(2 ** 31), 2 ** 31);
    expect(dtype).toBe("int32");
    const { min, max } = moments(data);
    expect(min).toBeLessThan(-2_100_000_000);
    expect(max).toBeGreaterThan(2_100_000_000);
  });

  it("permutes: each number once, each order equally often", () => {
    expect([...random(16).permutation(1000)].sort((a, b) => a - b)).toEqual(Array.from({ length: 1000 }, (_, i) => i));
    const counts = new Map<string, number>();
    const stream = random(17);
    for (let i = 0; i < 24_000; i++) {
      const order = stream.at(i).permutation(4).join("");
      counts.set(order, (counts.get(order) ?? 0) + 1);
    }
    expect(counts.size).toBe(24);
    // Chi-squared with 23 degrees of freedom lies below 49.7 with probability 0.999.
    expect([...counts.values()].reduce((sum, count) => sum + (count - 1000) ** 2 / 1000, 0)).toBeLessThan(49.7);
    expect([...random(16).permutation(0)]).toEqual([]);
  });

  it("refuses paths and ranges that are not whole numbers", () => {
    expect(() => random(0.5)).toThrow(/whole number/);
    expect(() => random(1, NaN)).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
    expect(() => random(1).integers([1], 3, 3)).toThrow(/low < high/);
    expect(() => random(1).permutation(-1)).toThrow(/whole number/);
  });
});

function moments(data: ArrayLike<number>): { mean: number; variance: number; min: number; max: number } {
  let sum = 0;
  let squares = 0;
  let min = Infinity;
  let max = -Infinity;
  for (let i = 0; i < data.length; i++) {
    const value = data[i]!;
    sum += value;
    squares += value * value;
    min = Math.min(min, value);
    max = Math.max(max, value);
  }
  const mean = sum / data.length;
  return { mean, variance: squares / data.length - mean * mean, min, max };
}
