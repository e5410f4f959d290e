import { ShapeError, checkFields, tensorShape, type Ops } from "@sdxs/tensor";

/** Mean over everything but the first axis: [batch, ...] gives [batch]. */
export function meanPerSample<T>(ops: Ops<T>, x: T): T {
  return ops.mean(x, { axes: axesAfterBatch(ops, x) });
}

/** Sum over everything but the first axis: [batch, ...] gives [batch]. */
export function sumPerSample<T>(ops: Ops<T>, x: T): T {
  return ops.sum(x, { axes: axesAfterBatch(ops, x) });
}

const axesAfterBatch = <T>(ops: Ops<T>, x: T): number[] =>
  ops
    .shape(x)
    .slice(1)
    .map((_, i) => i + 1);

/** Throws `ShapeError` unless both tensors have one shape, of at least `minRank` axes. */
export function checkSameShape<T>(ops: Ops<T>, where: string, prediction: T, target: T, minRank = 2): void {
  const received = tensorShape(ops, where, "its first tensor", prediction);
  const expected = tensorShape(ops, where, "its second tensor", target);
  if (expected.join() === received.join() && received.length >= minRank) return;
  throw new ShapeError(
    `${where}: both tensors must have one shape of at least ${minRank} axes, batch first; ` +
      `got [${received.join(", ")}] and [${expected.join(", ")}].`,
  );
}

/** Throws `ShapeError` unless the tensor has shape [batch]. */
export function checkPerSample<T>(ops: Ops<T>, where: string, name: string, x: T, batch: number): void {
  const shape = tensorShape(ops, where, name, x);
  if (shape.length === 1 && shape[0] === batch) return;
  throw new ShapeError(`${where}: ${name} must have one value per sample, [${batch}], got [${shape.join(", ")}].`);
}

/** Throws `InvalidArgumentError` unless the level has alpha and sigma, which are tensors. */
export function checkLevel<T>(ops: Ops<T>, where: string, level: { readonly alpha: T; readonly sigma: T }): void {
  checkFields(where, "level", level, ["alpha", "sigma"]);
  tensorShape(ops, where, "level.alpha", level.alpha);
  tensorShape(ops, where, "level.sigma", level.sigma);
}
