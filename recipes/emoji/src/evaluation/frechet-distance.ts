import { InvalidArgumentError, ShapeError, type HostTensor } from "@sdxs/tensor";
import { EigenvalueDecomposition, Matrix } from "ml-matrix";

/** Mean and covariance of features. */
export interface FeatureStatistics {
  /** [features] */
  readonly mean: readonly number[];
  /** [features, features], with the divisor n - 1. */
  readonly covariance: Matrix;
}

/**
 * The Fréchet distance of two sets of features, each taken for normally distributed (arXiv:1706.08500, Equation 6):
 *
 *     |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))
 *
 * It is larger the fewer the samples, so that only distances of equally many compare.
 *
 * @param features [n, features], n at least 2; more than features, for covariances of full rank
 * @param others [m, features]
 * @returns 0 for equal sets, up to rounding; in squared units of the features
 *
 * @throws ShapeError where these are no two such matrices, InvalidArgumentError for less than two rows.
 */
export function frechetDistance(features: HostTensor, others: HostTensor): number {
  if (features.shape.length !== 2 || others.shape.length !== 2 || features.shape[1] !== others.shape[1]) {
    throw new ShapeError(
      `frechetDistance: expected [n, features] and [m, features], got [${features.shape.join(", ")}] and ` +
        `[${others.shape.join(", ")}]. Take both from the same network.`,
    );
  }
  return gaussianFrechetDistance(featureStatistics(features), featureStatistics(others));
}

/** The distance of two normal distributions. */
export function gaussianFrechetDistance(first: FeatureStatistics, second: FeatureStatistics): number {
  const root = squareRoot(first.covariance);
  // C1 C2 has the eigenvalues of C1^(1/2) C2 C1^(1/2), which is symmetric.
  const product = symmetricEigenvalues(root.mmul(second.covariance).mmul(root)).realEigenvalues;
  const traceOfRoot = product.reduce((sum, value) => sum + Math.sqrt(Math.max(value, 0)), 0);
  const means = first.mean.reduce((sum, value, i) => sum + (value - second.mean[i]!) ** 2, 0);
  return means + first.covariance.trace() + second.covariance.trace() - 2 * traceOfRoot;
}

function featureStatistics({ shape, data }: HostTensor): FeatureStatistics {
  const [rows = 0, columns = 0] = shape;
  if (rows < 2) {
    throw new InvalidArgumentError(`frechetDistance: expected at least 2 rows of features, got ${rows}. Draw more.`);
  }
  const matrix = Matrix.from1DArray(rows, columns, data);
  const mean = matrix.mean("column");
  const centred = matrix.subRowVector(mean);
  return {
    mean,
    covariance: centred
      .transpose()
      .mmul(centred)
      .div(rows - 1),
  };
}

/** The square root of a symmetric matrix without negative eigenvalues, but for rounding. */
function squareRoot(matrix: Matrix): Matrix {
  const { eigenvectorMatrix: vectors, realEigenvalues } = symmetricEigenvalues(matrix);
  const roots = realEigenvalues.map((value) => Math.sqrt(Math.max(value, 0)));
  return vectors.clone().mulRowVector(roots).mmul(vectors.transpose());
}

function symmetricEigenvalues(matrix: Matrix): EigenvalueDecomposition {
  return new EigenvalueDecomposition(matrix, { assumeSymmetric: true });
}
