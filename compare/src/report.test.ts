import { describe, expect, it } from "vitest";
import { comparedCases, comparedPipelines } from "./cases.js";
import { difference, report } from "./report.js";

describe("difference", () => {
  it("is relative to the largest magnitude expected, or to 1", () => {
    expect(difference([0.5, 0.25], [0.5, 0])).toBe(0.25);
    expect(difference([11, 0], [10, 0])).toBe(0.1);
  });

  it("is infinite for a NaN and for another number of values", () => {
    expect(difference([NaN], [0])).toBe(Infinity);
    expect(difference([1, 2], [1])).toBe(Infinity);
  });
});

describe("report", () => {
  const near = { name: "a, 1 step", pipeline: "a", latents: 2e-6, images: 3e-6 };

  it("has a row for each pipeline and one line in the end", () => {
    const { lines, ok } = report([near, { ...near, name: "a, 4 steps", latents: 0 }]);
    expect(lines).toContain("| a | 2 | 2.0e-6 | 3.0e-6 |");
    expect(lines.at(-1)).toBe("2 compared, 0 over 0.0001, largest difference 3.0e-6");
    expect(ok).toBe(true);
  });

  it("fails for what is too far apart, not a number or not compared, and names it", () => {
    const far = { ...near, name: "a, far", images: 2e-4 };
    expect(report([near, far]).lines).toContain("over: a, far: latents 2.0e-6, pictures 2.0e-4");
    expect(report([near, far]).ok).toBe(false);
    expect(report([{ ...near, latents: Infinity }]).ok).toBe(false);
    const refused = report([near, { name: "b", pipeline: "b", by: "sdxs", message: "no" }]);
    expect(refused.lines.at(-1)).toBe("1 compared, 0 over 0.0001, largest difference 3.0e-6, 1 not compared");
    expect(refused.ok).toBe(false);
  });
});

it("each case has a name of its own and a pipeline", () => {
  expect(new Set(comparedCases.map(({ name }) => name)).size).toBe(comparedCases.length);
  const names = comparedPipelines.map(({ name }) => name);
  expect(new Set(names).size).toBe(names.length);
  expect(comparedCases.every(({ pipeline }) => names.includes(pipeline))).toBe(true);
});
