import { InvalidArgumentError, ShapeError, type HostTensor } from "@sdxs/tensor";

export interface PrecisionRecallOptions {
  /** Which nearest neighbour gives the radius of a sample's ball. Default 3, as in the paper. */
  readonly k?: number;
}

/**
 * Improved precision and recall (arXiv:1904.06991, Equations 1 and 2). Around each sample of a set lies a ball that
 * reaches to its k-th nearest neighbour in that set; together the balls stand for the set's distribution.
 *
 * @param real features [n, features], n above k
 * @param generated features [m, features], m above k
 * @returns precision: the share of generated samples inside a real one's ball, how many look real; recall: the share
 *   of real samples inside a generated one's ball, how much of the real is covered
 *
 * @throws ShapeError where these are no two such matrices, InvalidArgumentError for a k that does not fit.
 */
export function precisionRecall(
  real: HostTensor,
  generated: HostTensor,
  { k = 3 }: PrecisionRecallOptions = {},
): { readonly precision: number; readonly recall: number } {
  if (real.shape.length !== 2 || generated.shape.length !== 2 || real.shape[1] !== generated.shape[1]) {
    throw new ShapeError(
      `precisionRecall: expected [n, features] and [m, features], got [${real.shape.join(", ")}] and ` +
        `[${generated.shape.join(", ")}]. Take both from the same network.`,
    );
  }
  const samples = Math.min(real.shape[0] ?? 0, generated.shape[0] ?? 0);
  if (!Number.isSafeInteger(k) || k < 1 || k >= samples) {
    throw new InvalidArgumentError(`precisionRecall: k must be a whole number from 1 to below ${samples}, got ${k}.`);
  }
  return { precision: coverage(real, generated, k), recall: coverage(generated, real, k) };
}

/** The share of samples that lie inside at least one ball of the set. */
function coverage(set: HostTensor, samples: HostTensor, k: number): number {
  const points = rows(set);
  // Each point is its own nearest neighbour, at place 0.
  const radii = points.map((point) => points.map((other) => squaredDistance(point, other)).sort((a, b) => a - b)[k]!);
  const tested = rows(samples);
  const covered = tested.filter((sample) => points.some((point, i) => squaredDistance(sample, point) <= radii[i]!));
  return covered.length / tested.length;
}

function rows({ shape: [count = 0, width = 0], data }: HostTensor): HostTensor["data"][] {
  return Array.from({ length: count }, (_, row) => data.subarray(row * width, (row + 1) * width));
}

function squaredDistance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i]! - b[i]!) ** 2;
  return sum;
}
