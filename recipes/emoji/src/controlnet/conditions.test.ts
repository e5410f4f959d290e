import { HostTensor } from "@sdxs/tensor";
import { describe, expect, it } from "vitest";
import { edgeF1, foreground, meanDifference, silhouetteOverlap } from "./conditions.js";

/** One picture of equal channels from its rows of characters. */
const picture = (rows: readonly string[], channels: number, of: (character: string) => number): HostTensor => {
  const values = Array.from(rows.join(""), of);
  return HostTensor.from([1, channels, rows.length, rows[0]!.length], Array<number[]>(channels).fill(values).flat());
};
const edges = (...rows: string[]) => picture(rows, 3, (character) => (character === "#" ? 1 : 0));

describe("edgeF1", () => {
  const given = edges("#....", "#....", "#....", "#....");

  it("is 1 for edges that are off by a pixel, sideways or diagonally, and 0 for those that are off by two", () => {
    expect(edgeF1(given, given)).toBe(1);
    expect(edgeF1(edges(".#...", ".#...", ".#...", ".#..."), given)).toBe(1);
    expect(edgeF1(edges(".....", ".#...", ".....", "....."), edges("#....", ".....", ".....", "....."))).toBe(1);
    expect(edgeF1(edges("..#..", "..#..", "..#..", "..#.."), given)).toBe(0);
  });

  it("is the harmonic mean of precision and recall", () => {
    // One of two edges lies near a given one; rows 0 and 1 of four have one near.
    expect(edgeF1(edges("#...#", ".....", ".....", "....."), given)).toBeCloseTo(0.5, 6);
    // All three lie near, and all given ones but the last.
    expect(edgeF1(edges("#....", "#....", ".....", "....."), given)).toBeCloseTo((2 * 0.75) / 1.75, 6);
  });

  it("is 0 where there are no edges", () => {
    expect(edgeF1(edges("....."), edges("....."))).toBe(0);
  });
});

describe("foreground", () => {
  it("is what differs from the border's median, in any channel", () => {
    const gray = picture([".....", ".##..", ".#~..", "....#"], 3, (c) => ({ "#": 0.8, "~": -0.1 })[c] ?? -0.2);
    expect([...foreground(gray).data].join("").match(/.{5}/g)).toEqual(["00000", "01100", "01000", "00001"]);
  });
});

describe("silhouetteOverlap", () => {
  const filled = edges(".....", ".###.", ".###.", ".###.", ".....");

  it("looks at outlines, not at what is inside", () => {
    expect(silhouetteOverlap(edges(".....", ".###.", ".#.#.", ".###.", "....."), filled)).toBe(1);
  });

  it("is the pixels in both of those in either", () => {
    expect(silhouetteOverlap(edges(".....", ".##..", ".##..", ".##..", "....."), filled)).toBeCloseTo(6 / 9, 6);
    expect(silhouetteOverlap(edges(".....", "..###", "..###", "..###", "....."), filled)).toBeCloseTo(6 / 12, 6);
    expect(silhouetteOverlap(edges(".....", "....."), edges(".....", "....."))).toBe(1);
  });
});

describe("meanDifference", () => {
  it("is the mean of absolute differences", () => {
    expect(meanDifference(HostTensor.from([4], [0, 1, 2, 3]), HostTensor.from([4], [1, 1, 0, 3]))).toBe(0.75);
  });
});
