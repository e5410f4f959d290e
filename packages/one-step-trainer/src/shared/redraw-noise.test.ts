import { random } from "@sdxs/tensor";
import { describe, expect, it } from "vitest";
import { redrawNoise } from "../index.js";

const noise = random(1).normal([4, 4, 32, 32]);
const values = noise.data.length;
const kept = (share: number, seed = 2) => {
  const redrawn = redrawNoise(noise, share, random(seed));
  return redrawn.data.filter((value, i) => value === noise.data[i]).length / values;
};

describe("redrawNoise", () => {
  it("keeps the other values, about as many as it says", () => {
    expect(kept(0)).toBe(1);
    expect(kept(1)).toBe(0);
    // A binomial share of 16,384 values: five standard deviations are 0.02.
    expect(Math.abs(kept(0.3) - 0.7)).toBeLessThan(0.02);
  });

  it("stays standard normal, and is uncorrelated with the noise where all values are resampled", () => {
    const mean = (of: (i: number) => number) =>
      Array.from(noise.data, (_, i) => of(i)).reduce((sum, value) => sum + value, 0) / values;
    for (const share of [0.5, 1]) {
      const { data, shape } = redrawNoise(noise, share, random(3));
      expect(shape).toEqual(noise.shape);
      expect(Math.abs(mean((i) => data[i]!))).toBeLessThan(0.04); // five standard errors
      expect(Math.abs(mean((i) => data[i]! ** 2) - 1)).toBeLessThan(0.06);
      // The covariance with the noise is the share of the values that stay.
      expect(Math.abs(mean((i) => data[i]! * noise.data[i]!) - (1 - share))).toBeLessThan(0.06);
    }
  });

  it("is the same for the same stream, and another for another", () => {
    expect(redrawNoise(noise, 0.5, random(4))).toEqual(redrawNoise(noise, 0.5, random(4)));
    expect(redrawNoise(noise, 0.5, random(4))).not.toEqual(redrawNoise(noise, 0.5, random(5)));
  });

  it.each([-0.1, 1.1, NaN])("refuses a share of %d", (share) => {
    expect(() => redrawNoise(noise, share, random(1))).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
  });
});
