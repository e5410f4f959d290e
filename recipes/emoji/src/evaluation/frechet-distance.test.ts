import { HostTensor, random } from "@sdxs/tensor";
import { Matrix } from "ml-matrix";
import { describe, expect, it } from "vitest";
import { frechetDistance, gaussianFrechetDistance } from "./frechet-distance.js";

describe("gaussianFrechetDistance", () => {
  it("is the sum of squared differences of means and of deviations where covariances are diagonal", () => {
    const first = { mean: [1, 0, -2], covariance: Matrix.diag([4, 1, 0.25]) };
    const second = { mean: [0, 2, -2], covariance: Matrix.diag([1, 1, 9]) };
    // 1 + 4 + 0, and (2 - 1)^2 + 0 + (0.5 - 3)^2
    expect(gaussianFrechetDistance(first, second)).toBeCloseTo(5 + 1 + 6.25, 10);
  });

  it("takes the root of a product of covariances that do not commute", () => {
    const first = { mean: [0, 0], covariance: Matrix.from1DArray(2, 2, [2, 1, 1, 2]) };
    const second = { mean: [0, 0], covariance: Matrix.diag([1, 4]) };
    // The product [[2, 4], [1, 8]] has trace 10 and determinant 12; the roots of its eigenvalues sum to
    // sqrt(trace + 2 sqrt(determinant)).
    const expected = 4 + 5 - 2 * Math.sqrt(10 + 2 * Math.sqrt(12));
    expect(gaussianFrechetDistance(first, second)).toBeCloseTo(expected, 10);
    expect(gaussianFrechetDistance(second, first)).toBeCloseTo(expected, 10);
  });
});

describe("frechetDistance", () => {
  it("is 0 for equal sets, and the squared shift for a shifted one", () => {
    const features = random("Fréchet").normal([40, 5]);
    const shifted = new HostTensor(
      features.shape,
      features.data.map((value, i) => (i % 5 === 2 ? value + 3 : value)),
    );
    expect(frechetDistance(features, features)).toBeCloseTo(0, 8);
    expect(frechetDistance(features, shifted)).toBeCloseTo(9, 5); // the features are float32
  });

  it("estimates covariances with the divisor n - 1", () => {
    // Variances 2 and 8 around means 1 and 2: 1 + (sqrt 2 - sqrt 8)^2.
    expect(frechetDistance(HostTensor.from([2, 1], [0, 2]), HostTensor.from([2, 1], [0, 4]))).toBeCloseTo(3, 10);
  });

  it("refuses features of different networks, and single ones", () => {
    const code = (code: string): Error => expect.objectContaining({ code }) as Error;
    expect(() => frechetDistance(HostTensor.filled([4, 2], 0), HostTensor.filled([4, 3], 0))).toThrow(
      code("SHAPE_MISMATCH"),
    );
    expect(() => frechetDistance(HostTensor.filled([1, 2], 0), HostTensor.filled([4, 2], 0))).toThrow(
      code("INVALID_ARGUMENT"),
    );
  });
});
