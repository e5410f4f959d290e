import { ShapeError, type Ops } from "@sdxs/tensor";

/** Throws `ShapeError` unless both lists, and the weights if any, have one length above 0 and the maps pairwise one shape. */
export function checkFeatureLists<T>(
  ops: Ops<T>,
  where: string,
  features: readonly T[],
  targets: readonly T[],
  weights: readonly unknown[] = features,
): void {
  if (features.length === 0 || features.length !== targets.length || features.length !== weights.length) {
    throw new ShapeError(
      `${where}: as many features as target features and weights are needed, at least one; ` +
        `got ${features.length}, ${targets.length} and ${weights.length}.`,
    );
  }
  features.forEach((map, l) => {
    const received = ops.shape(map).join(", ");
    const expected = ops.shape(targets[l]!).join(", ");
    if (received !== expected) {
      throw new ShapeError(
        `${where}: feature ${l} has shape [${received}], its target [${expected}]; they must be one.`,
      );
    }
  });
}

/** sum_l weights[l] terms[l]. */
export function weightedSum<T>(ops: Ops<T>, terms: readonly T[], weights: readonly number[]): T {
  return terms.map((term, l) => ops.mul(term, weights[l]!)).reduce((sum, term) => ops.add(sum, term));
}
