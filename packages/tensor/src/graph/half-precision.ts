/**
 * Which operations compute in float16. Convolutions, products, and what joins their results do; what loses too much stays in
 * float32: softmax, sums, exponentials, and all that is computed from a program's inputs before the first product, such
 * as a timestep's sines and a sampler's factors. `LayerNormalization` takes float16, but its statistics are float32
 * by ONNX's definition (`stash_type`).
 */
import type { Node, OpName } from "./node.js";

/** Exact enough in float16 where their operands are of it. */
const JOINING: ReadonlySet<OpName> = new Set<OpName>([
  ...(["neg", "abs", "tanh", "sigmoid", "relu", "add", "sub", "mul", "maximum", "minimum", "where"] as const),
  ...(["avgPool2d", "maxPool2d", "resizeNearest", "reshape", "transpose", "broadcastTo", "concat", "slice"] as const),
  ...(["pad", "gather", "stopGradient", "variable", "normalize"] as const),
]);

const RESHAPING: ReadonlySet<OpName> = new Set<OpName>(["reshape", "transpose", "broadcastTo"]);

/** float16's normal numbers. */
const [SMALLEST, LARGEST] = [2 ** -14, 65504];

/** @param isHalf whether a node's value is float16 */
export function computesInHalf(node: Node, isHalf: (node: Node) => boolean): boolean {
  if (node.dtype !== "float32") return false;
  if (node.op === "conv2d" || node.op === "matmul") return true;
  const [table] = node.inputs;
  if (node.op === "gather" && table?.op === "constant") return fits(table);
  if (!JOINING.has(node.op)) return false;
  const operands = node.inputs.filter(({ dtype }) => dtype === "float32");
  return operands.some(isHalf) && operands.every((operand) => isHalf(operand) || fits(operand));
}

/** Whether this is a weight, reshaped at most, that float16 holds; no small number, since something may be divided by it. */
function fits(node: Node): boolean {
  const [source] = node.inputs;
  if (RESHAPING.has(node.op) && source) return fits(source);
  const { data } = node;
  if (!(data instanceof Float32Array)) return false;
  const least = data.length === 1 ? SMALLEST : 0;
  return data.every((value) => value === 0 || (Math.abs(value) >= least && Math.abs(value) <= LARGEST));
}
