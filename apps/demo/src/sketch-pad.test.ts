import { expect, it } from "vitest";
import { edgesOf, lineBetween, shifted } from "./sketch-pad.js";

it("draws lines without gaps, both ends included", () => {
  expect(lineBetween([2, 3], [2, 3])).toEqual([[2, 3]]);
  expect(lineBetween([0, 0], [4, 2])).toEqual([
    [0, 0],
    [1, 1],
    [2, 1],
    [3, 2],
    [4, 2],
  ]);
  expect(lineBetween([1, 5], [0, 2])).toHaveLength(4);
});

it("moves lines, and loses what leaves the picture", () => {
  const pixels = Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 1, 1); // 3x3
  expect([...shifted(pixels, 1, 0, 3)]).toEqual([0, 1, 0, 0, 0, 0, 0, 0, 1]);
  expect([...shifted(pixels, 0, -1, 3)]).toEqual([0, 0, 0, 0, 1, 1, 0, 0, 0]);
});

it("traces the edge of a square", () => {
  const data = new Uint8ClampedArray(4 * 16 * 16).fill(255);
  for (let y = 4; y < 12; y++) data.fill(0, 4 * (16 * y + 4), 4 * (16 * y + 12));
  const edges = edgesOf({ data, width: 16, height: 16 });
  expect(edges[16 * 8 + 8]).toBe(0);
  expect(edges.subarray(16 * 8, 16 * 9).reduce((sum, value) => sum + value, 0)).toBe(2);
});
