import { sizeOf, type Operand, type Ops } from "@sdxs/tensor";

/** A loss of the student's samples that is differentiated by the samples, before it is by the student's parameters. */
export interface SampleLoss<T> {
  /** The batch's mean, shape []. */
  readonly value: T;
  /** The gradient of each sample's own loss, shaped as the samples. */
  readonly gradient: T;
}

/** @param loss of samples, [batch] */
export function differentiateBySample<T>(ops: Ops<T>, sample: T, loss: (sample: T) => T): SampleLoss<T> {
  const { loss: total, grads } = ops.valueAndGrad(({ x }) => ({ loss: ops.sum(loss(x!)), aux: {} }), { x: sample });
  return { value: ops.div(total, ops.shape(sample)[0] ?? 1), gradient: grads["x"]! };
}

/** The weighted sum of losses, shape [], whose gradient by `sample` is that of the gradients. */
export function weightedLoss<T>(
  ops: Ops<T>,
  sample: T,
  terms: readonly (readonly [weight: Operand<T>, loss: SampleLoss<T>])[],
): T {
  const total = (part: (loss: SampleLoss<T>) => T): T =>
    terms.map(([weight, loss]) => ops.mul(weight, part(loss))).reduce((sum, term) => ops.add(sum, term));
  const value = total((loss) => loss.value);
  const gradient = total((loss) => loss.gradient);
  // Linear in the sample, with the gradient of a mean over the batch.
  const product = ops.sum(ops.mul(sample, ops.stopGradient(ops.div(gradient, ops.shape(sample)[0] ?? 1))));
  return ops.add(product, ops.stopGradient(ops.sub(value, product)));
}

/** Mean over the batch of the L2 norm of each sample's gradient. */
export function gradientNorm<T>(ops: Ops<T>, { gradient }: SampleLoss<T>): T {
  return ops.mean(ops.sqrt(ops.sum(ops.square(gradient), { axes: axesAfterBatch(ops, gradient) })));
}

/** Elements of one sample. */
export function sampleSize<T>(ops: Ops<T>, sample: T): number {
  return sizeOf(ops.shape(sample).slice(1));
}

function axesAfterBatch<T>(ops: Ops<T>, x: T): number[] {
  return ops
    .shape(x)
    .slice(1)
    .map((_, i) => i + 1);
}
