import { describe, expect, it } from "vitest";
import { initialize } from "./initialize.js";
import { fanInUniform, normal, ones, zeros } from "../core/initializers.js";

describe("initialize", () => {
  const weight = { shape: [64, 256], init: fanInUniform(256) };

  it("fills constants and samples numbers of the stated spread", () => {
    const params = initialize(
      {
        scale: { shape: [3], init: ones },
        shift: { shape: [3], init: zeros },
        weight,
        noise: { shape: [40000], init: normal(0.02) },
      },
      1,
    );
    expect([...params["scale"]!.data, ...params["shift"]!.data]).toEqual([1, 1, 1, 0, 0, 0]);
    // Uniform in [-1/16, 1/16): variance 1/768; four standard errors are 3%.
    expect(Math.max(...params["weight"]!.data)).toBeLessThan(1 / 16);
    expect(Math.min(...params["weight"]!.data)).toBeGreaterThanOrEqual(-1 / 16);
    expect(meanSquare(params["weight"]!.data) * 768).toBeCloseTo(1, 1);
    expect(Math.sqrt(meanSquare(params["noise"]!.data))).toBeCloseTo(0.02, 3);
  });

  it("gives a parameter the same numbers whatever others there are", () => {
    const alone = initialize({ weight }, 7);
    const among = initialize({ before: weight, weight }, 7);
    expect(among["weight"]).toEqual(alone["weight"]);
    expect(among["before"]!.data).not.toEqual(among["weight"]!.data);
    expect(initialize({ weight }, 8)["weight"]!.data).not.toEqual(alone["weight"]!.data);
  });
});

function meanSquare(data: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < data.length; i++) sum += data[i]! ** 2;
  return sum / data.length;
}
