import { HostTensor } from "@sdxs/tensor";
import { describe, expect, it } from "vitest";
import { precisionRecall } from "./precision-recall.js";

const points = (...places: (readonly [x: number, y: number])[]) => HostTensor.from([places.length, 2], places.flat());

describe("precisionRecall", () => {
  // With k = 1 the balls of the real points have the radii 1, 1 and 5: the third one's nearest neighbour is (1, 0).
  const real = points([0, 0], [1, 0], [4, 4]);

  it("counts generated points inside real balls, and real points inside generated balls", () => {
    // The first lies in the ball of (0, 0), the second in none, the third in that of (4, 4).
    const generated = points([-1, 0], [-2, 0], [4, 6]);
    // The third's nearest neighbour is (-1, 0), sqrt(61) away: its ball holds all real points.
    expect(precisionRecall(real, generated, { k: 1 })).toEqual({ precision: 2 / 3, recall: 1 });
  });

  it("tells few kinds from poor quality", () => {
    // All near (0, 0), which alone lies in their small balls.
    const few = points([0, 0.1], [0.1, 0], [-0.1, 0]);
    expect(precisionRecall(real, few, { k: 1 })).toEqual({ precision: 1, recall: 1 / 3 });
    // None in a ball, while theirs have the radius 40 and hold all real points.
    const poor = points([20, 20], [-20, 20], [-20, -20]);
    expect(precisionRecall(real, poor, { k: 1 })).toEqual({ precision: 0, recall: 1 });
  });

  it("takes the k-th neighbour for the radius", () => {
    const line = points([0, 0], [1, 0], [3, 0], [7, 0]);
    const beyond = points([9, 0], [10, 0], [11.5, 0], [14, 0]);
    // (7, 0) reaches 4 to its first neighbour (3, 0), 6 to its second and 7 to its third.
    const precision = (k: number): number => precisionRecall(line, beyond, { k }).precision;
    expect([1, 2, 3].map(precision)).toEqual([0.5, 0.75, 1]);
  });

  it("is 1 for equal sets", () => {
    expect(precisionRecall(real, real, { k: 2 })).toEqual({ precision: 1, recall: 1 });
  });

  it("refuses features of different networks and a k that leaves no neighbour", () => {
    const code = (code: string): Error => expect.objectContaining({ code }) as Error;
    expect(() => precisionRecall(real, HostTensor.filled([3, 3], 0))).toThrow(code("SHAPE_MISMATCH"));
    expect(() => precisionRecall(real, real)).toThrow(code("INVALID_ARGUMENT"));
  });
});
