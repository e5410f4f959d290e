import type { Tensor3D } from "@tensorflow/tfjs";
import { runPair, type PairOperation, type Tensor, type TensorFlow } from "./lazy.js";

/** [B, m, k] times [B, k, n], each operand's last two axes exchanged if requested. */
export function batchedProduct(
  tf: TensorFlow,
  a: Tensor3D,
  b: Tensor3D,
  transposeA: boolean,
  transposeB: boolean,
): Tensor {
  if (tf.getBackend() !== "wasm") return tf.matMul(a, b, transposeA, transposeB);
  const exchange = (x: Tensor3D): Tensor => tf.transpose(x, [0, 2, 1]);
  return runPair(tf, wasmProduct, transposeA ? exchange(a) : a, transposeB ? exchange(b) : b, {});
}

/**
 * The fast product of tfjs-wasm is for one pair of matrices without transposition; batches and transposed operands
 * take a path that is 5 to 15 times as slow (measured: 32 products of [256, 32] with [32, 256]). So larger
 * products run one by one, on operands transposed before.
 */
const wasmProduct: PairOperation<Record<string, never>> = {
  name: "SdxsBatchedProduct",
  forward(tf, a, b) {
    const [batch = 0, rows = 0, inner = 0] = a.shape;
    const columns = b.shape[2] ?? 0;
    // Chosen: below about 2^16 multiplications the cost of a call outweighs the faster kernel (measured).
    if (batch <= 1 || rows * inner * columns < 2 ** 16) return tf.matMul(a, b);
    const left = tf.unstack(a);
    const right = tf.unstack(b);
    return tf.stack(left.map((matrix, i) => tf.matMul(matrix, right[i] as Tensor)));
  },
  gradientA: (tf, dy, _a, b) => batchedProduct(tf, dy as Tensor3D, b as Tensor3D, false, true),
  gradientB: (tf, dy, a) => batchedProduct(tf, a as Tensor3D, dy as Tensor3D, true, false),
};
