import { HostTensor, random } from "@sdxs/tensor";
import { noiseLevelAt } from "@sdxs/diffusion";
import { describe, expect, it } from "vitest";
import { noisyPairs } from "../distil.js";
import { schedule } from "../models.js";
import { quickstartPrompts } from "../quickstart-subset.js";
import { pickPrompts } from "../evaluation/pick-prompts.js";

describe("noisyPairs", () => {
  // Each clean sample is one number throughout, and so is its context.
  const rows = Array.from({ length: 5 }, (_, row) => row);
  const pairs = {
    noise: HostTensor.filled([5, 4, 16, 16], 0),
    target: HostTensor.from(
      [5, 4, 16, 16],
      rows.flatMap((row) => Array<number>(1024).fill(row + 1)),
    ),
    context: HostTensor.from(
      [5, 2, 3],
      rows.flatMap((row) => Array<number>(6).fill(row + 1)),
    ),
  };
  const empty = HostTensor.filled([1, 2, 3], -1);
  const draw = (share: number) => noisyPairs(pairs, random(1), { share, context: empty });

  it("mix each sample with noise at its timestep and keep its context", () => {
    const { sample, timestep, encoderHiddenStates } = draw(0);
    timestep.data.forEach((t, row) => {
      const { alpha, sigma } = noiseLevelAt(schedule, t);
      const context = encoderHiddenStates.data.subarray(6 * row, 6 * row + 6);
      expect(new Set(context).size).toBe(1);
      const noise = Array.from(
        sample.data.subarray(1024 * row, 1024 * (row + 1)),
        (value) => (value - alpha * (context[0] ?? NaN)) / sigma,
      );
      const mean = noise.reduce((sum, value) => sum + value / 1024, 0);
      const variance = noise.reduce((sum, value) => sum + (value - mean) ** 2 / 1024, 0);
      expect(Math.abs(mean)).toBeLessThan(0.16); // 5 standard errors
      expect(Math.abs(variance - 1)).toBeLessThan(0.22);
    });
  });

  it("ask for the empty prompt in the given share of samples, and change nothing else", () => {
    const [none, some, all] = [draw(0), draw(0.5), draw(1)];
    expect(all.encoderHiddenStates.data.every((value) => value === -1)).toBe(true);
    expect(new Set(some.encoderHiddenStates.data)).toContain(-1);
    expect(new Set(some.encoderHiddenStates.data).size).toBeGreaterThan(1);
    expect(all.sample).toEqual(none.sample);
    expect(all.timestep).toEqual(none.timestep);
  });
});

describe("pickPrompts", () => {
  it("begins with the quickstart's and takes others at random, each once", () => {
    const all = [...quickstartPrompts, ...Array.from({ length: 90 }, (_, i) => `prompt ${i}`)];
    const picked = pickPrompts(all, 30, 1);
    expect(picked.slice(0, 10)).toEqual(quickstartPrompts);
    expect(new Set(picked).size).toBe(30);
    expect(pickPrompts(all, 30, 2).slice(0, 10)).toEqual(quickstartPrompts);
    expect(pickPrompts(all, 30, 2)).not.toEqual(picked);
    expect(pickPrompts(all, 1000, 1)).toHaveLength(100);
  });
});
