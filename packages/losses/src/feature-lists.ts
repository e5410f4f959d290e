import { InvalidArgumentError, ShapeError, kindOf, tensorShape, type Ops } from "@sdxs/tensor";

/**
 * Throws `InvalidArgumentError` unless both are lists, of tensors, and `ShapeError` unless both, and the weights if any, have one
 * length above 0 and the maps pairwise one shape.
 */
export function checkFeatureLists<T>(
  ops: Ops<T>,
  where: string,
  features: readonly T[],
  targets: readonly T[],
  weights?: readonly unknown[],
): void {
  for (const [name, list] of Object.entries({ features, "target features": targets, weights: weights ?? [] })) {
    if (!Array.isArray(list)) {
      throw new InvalidArgumentError(
        `${where}: expected a list of ${name}, one for each feature map, got ${kindOf(list)}. Write [x] for one.`,
      );
    }
  }
  const counted = weights ?? features;
  if (features.length === 0 || features.length !== targets.length || features.length !== counted.length) {
    throw new ShapeError(
      `${where}: as many features as target features and weights are needed, at least one; ` +
        `got ${features.length}, ${targets.length} and ${counted.length}.`,
    );
  }
  features.forEach((map, l) => {
    const received = tensorShape(ops, where, `feature ${l}`, map).join(", ");
    const expected = tensorShape(ops, where, `target feature ${l}`, targets[l]!).join(", ");
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
