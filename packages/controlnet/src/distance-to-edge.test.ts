import { HostTensor, random } from "@sdxs/tensor";
import { describe, expect, it } from "vitest";
import { distanceToEdge } from "./distance-to-edge.js";

const mask = (rows: readonly string[]) =>
  HostTensor.from(
    [1, 1, rows.length, rows[0]!.length],
    Array.from(rows.join(""), (sign) => (sign === "#" ? 1 : 0)),
  );

describe("distanceToEdge", () => {
  it("is the distance to the nearest pixel outside, over the largest, in three channels", () => {
    const { shape, data } = distanceToEdge(mask([".......", ".#####.", ".#####.", ".#####.", "......."]));
    expect(shape).toEqual([1, 3, 5, 7]);
    const half = [
      0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 1, 2, 2, 2, 1, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    const expected = half.map((distance) => distance / 2);
    expect([...data]).toEqual([...expected, ...expected, ...expected]);
  });

  it("equals a search over all pixels", () => {
    const [height, width] = [13, 17];
    const values = random(3)
      .uniform([2, 1, height, width])
      .data.map((value) => (value < 0.9 ? 1 : 0));
    const masks = new HostTensor([2, 1, height, width], values);
    const result = distanceToEdge(masks);
    for (const row of [0, 1]) {
      const inside = (at: number) => values[row * height * width + at]! > 0;
      const pixels = Array.from({ length: height * width }, (_, at) => at);
      const place = (at: number) => [Math.floor(at / width), at % width] as const;
      const distances = pixels.map((at) => {
        const [i, j] = place(at);
        return Math.min(
          ...pixels.filter((to) => !inside(to)).map((to) => Math.hypot(i - place(to)[0], j - place(to)[1])),
        );
      });
      const largest = Math.max(...distances);
      pixels.forEach((at) => {
        expect(result.data[3 * row * height * width + at]).toBeCloseTo(distances[at]! / largest, 6);
      });
    }
  });

  it("is 1 where all is inside and 0 where all is outside", () => {
    expect(new Set(distanceToEdge(mask(["##", "##"])).data)).toEqual(new Set([1]));
    expect(new Set(distanceToEdge(mask(["..", ".."])).data)).toEqual(new Set([0]));
  });

  it("refuses what is no batch of masks, and NaN", () => {
    expect(() => distanceToEdge(HostTensor.filled([1, 3, 4, 4], 1))).toThrow(/\[1, 3, 4, 4\]/);
    expect(() => distanceToEdge(HostTensor.filled([1, 1, 4, 4], NaN))).toThrow(/NaN/);
  });
});
