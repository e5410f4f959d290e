/**
 * Which operations compute in float16. Convolutions, matrix products, and operations that combine their results do.
 * Operations that would lose too much precision stay in float32: softmax, sums, exponentials, and everything computed from a
 * program's inputs before the first product, such as a timestep's sines and a sampler's factors. `LayerNormalization` takes float16, but its statistics are float32
 * by ONNX's definition (`stash_type`).
 */
import type { DType, HostData } from "../core/host-tensor.js";
import { forElementwise } from "./elementwise.js";
import type { Node, OpName } from "./node.js";

/**
 * - "always": whatever its operands are
 * - "joins": where one of its operands is float16 and float16 holds the others
 * - "table": where float16 holds its first operand, a constant
 */
export type Float16Rule = "always" | "joins" | "table" | "never";

export const FLOAT16_RULES: Readonly<Record<OpName, Float16Rule>> = {
  ...forElementwise((_, { float16 }) => (float16 ? "joins" : "never")),
  matmul: "always",
  conv2d: "always",
  avgPool2d: "joins",
  maxPool2d: "joins",
  resizeNearest: "joins",
  reshape: "joins",
  transpose: "joins",
  broadcastTo: "joins",
  concat: "joins",
  slice: "joins",
  pad: "joins",
  stopGradient: "joins",
  variable: "joins",
  normalize: "joins",
  gather: "table",
  input: "never",
  constant: "never",
  pow: "never",
  cast: "never",
  sum: "never",
  mean: "never",
  max: "never",
  argMax: "never",
  softmax: "never",
  inverseStd: "never",
  conv2dInputGrad: "never",
  conv2dWeightGrad: "never",
};

/** What the rule needs to know of a graph. */
export interface Float16Graph<N> {
  ruleOf(node: N): Float16Rule;
  /** The elements of a constant, which may have been reshaped, transposed or broadcast; undefined of other nodes. */
  constantOf(node: N): HostData | undefined;
}

/** float16's normal numbers. */
const [SMALLEST, LARGEST] = [2 ** -14, 65504];

/** @param isHalf whether a node's value is float16 */
export function computesInFloat16<N extends { readonly dtype: DType; readonly inputs: readonly N[] }>(
  graph: Float16Graph<N>,
  node: N,
  isHalf: (node: N) => boolean,
): boolean {
  if (node.dtype !== "float32") return false;
  const holds = (operand: N): boolean => isFloat16Weight(graph.constantOf(operand));
  switch (graph.ruleOf(node)) {
    case "always":
      return true;
    case "table":
      return holds(node.inputs[0]!) || joins();
    case "joins":
      return joins();
    case "never":
      return false;
  }

  function joins(): boolean {
    const operands = node.inputs.filter(({ dtype }) => dtype === "float32");
    return operands.some(isHalf) && operands.every((operand) => isHalf(operand) || holds(operand));
  }
}

/** Whether float16 holds a weight; no small number, since something may be divided by it. */
function isFloat16Weight(data: HostData | undefined): boolean {
  if (!(data instanceof Float32Array)) return false;
  const least = data.length === 1 ? SMALLEST : 0;
  return data.every((value) => value === 0 || (Math.abs(value) >= least && Math.abs(value) <= LARGEST));
}

/** The rule on the recorded graph. */
export const recordedFloat16: Float16Graph<Node> = {
  ruleOf: ({ op }) => FLOAT16_RULES[op],
  constantOf: (node) =>
    node.op === "reshape" || node.op === "transpose" || node.op === "broadcastTo"
      ? recordedFloat16.constantOf(node.inputs[0])
      : node.data,
};
