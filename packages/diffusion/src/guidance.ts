import { ShapeError, type Ops } from "@sdxs/tensor";

/**
 * Classifier-free guidance (arXiv:2207.12598): unconditional + scale (conditional - unconditional).
 *
 * @param unconditional the network's output for the empty prompt, any shape
 * @param conditional the network's output for the prompt, same shape
 * @param scale 1 gives `conditional`; Stable Diffusion is usually sampled with 7.5
 *
 * Throws `ShapeError` where the shapes differ.
 */
export function guided<T>(ops: Ops<T>, unconditional: T, conditional: T, scale: number): T {
  const expected = ops.shape(unconditional).join(", ");
  const received = ops.shape(conditional).join(", ");
  if (expected !== received) {
    throw new ShapeError(
      `guided: both outputs must have one shape, got unconditional [${expected}] and conditional [${received}].`,
    );
  }
  return ops.add(unconditional, ops.mul(scale, ops.sub(conditional, unconditional)));
}
