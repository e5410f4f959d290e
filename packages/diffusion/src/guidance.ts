import { ShapeError, tensorShape, type Operand, type Ops } from "@sdxs/tensor";

/**
 * Classifier-free guidance (arXiv:2207.12598): unconditional + scale (conditional - unconditional).
 *
 * @param unconditional the network's output for the empty prompt, any shape
 * @param conditional the network's output for the prompt, same shape
 * @param scale 1 gives `conditional`; Stable Diffusion is usually sampled with 7.5. A tensor broadcasts: [batch, 1, 1, 1]
 *   is one for each sample
 *
 * Throws `ShapeError` where the shapes differ.
 */
export function guided<T>(ops: Ops<T>, unconditional: T, conditional: T, scale: Operand<T>): T {
  const expected = tensorShape(ops, "guided", "unconditional", unconditional).join(", ");
  const received = tensorShape(ops, "guided", "conditional", conditional).join(", ");
  if (expected !== received) {
    throw new ShapeError(
      `guided: both outputs must have one shape, got unconditional [${expected}] and conditional [${received}].`,
    );
  }
  return ops.add(unconditional, ops.mul(scale, ops.sub(conditional, unconditional)));
}
