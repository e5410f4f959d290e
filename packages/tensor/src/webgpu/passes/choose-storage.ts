import { computesInFloat16, FLOAT16_RULES, type Float16Graph, type Float16Rule } from "../../graph/half-precision.js";
import type { CompileSpec } from "../../core/program.js";
import { reachable } from "../ir/graph.js";
import { isGemm, isGiven, type Node, type Operation } from "../ir/node.js";
import { FULL, type Storage } from "../kernels/shader.js";
import { viewOf } from "../kernels/view.js";
import type { Fusion } from "./fuse-epilogues.js";

/**
 * The storage type of each stored node. With "float16", results computed in float16 and operands of GEMMs are stored as
 * float16; results of the program keep their precision.
 */
export function chooseStorage(
  { roots, isStored }: Fusion,
  outputs: ReadonlySet<Node>,
  precision: NonNullable<CompileSpec["precision"]>,
): (node: Node) => Storage {
  if (precision === "float32") return (node) => FULL[node.dtype];
  const half = new Map<Node, boolean>();
  const isHalf = (node: Node): boolean => {
    const known = half.get(node);
    if (known !== undefined) return known;
    const result = !isGiven(node) && computesInFloat16(kernelFloat16, node, isHalf);
    half.set(node, result);
    return result;
  };
  const operands = new Set<Node>();
  for (const gemm of reachable(roots).filter(isGemm)) {
    for (const input of gemm.inputs) {
      const { source } = viewOf(input, isStored);
      if (source.op !== "input" && fits(source)) operands.add(source);
    }
  }
  return (node) =>
    node.dtype === "float32" && !outputs.has(node) && (isHalf(node) || operands.has(node)) ? "f16" : FULL[node.dtype];
}

/** Not a constant with numbers outside of float16's range. */
function fits(node: Node): boolean {
  if (node.op === "transpose" || node.op === "reshape") return fits(node.inputs[0]);
  for (const value of node.data ?? []) if (Math.abs(value) > 65504) return false;
  return true;
}

const RULES: Readonly<Record<Exclude<Operation, "map">, Float16Rule>> = {
  input: FLOAT16_RULES.input,
  constant: FLOAT16_RULES.constant,
  cast: FLOAT16_RULES.cast,
  power: FLOAT16_RULES.pow,
  gemm: FLOAT16_RULES.matmul,
  convolution: FLOAT16_RULES.conv2d,
  convolutionInputGradient: FLOAT16_RULES.conv2dInputGrad,
  convolutionFilterGradient: FLOAT16_RULES.conv2dWeightGrad,
  reduction: FLOAT16_RULES.sum,
  softmax: FLOAT16_RULES.softmax,
  normalize: FLOAT16_RULES.normalize,
  inverseStd: FLOAT16_RULES.inverseStd,
  reshape: FLOAT16_RULES.reshape,
  transpose: FLOAT16_RULES.transpose,
  broadcast: FLOAT16_RULES.broadcastTo,
  slice: FLOAT16_RULES.slice,
  concat: FLOAT16_RULES.concat,
  pad: FLOAT16_RULES.pad,
  gather: FLOAT16_RULES.gather,
  resizeNearest: FLOAT16_RULES.resizeNearest,
  pool: FLOAT16_RULES.avgPool2d,
};

/** float16's rule on the kernel graph. */
const kernelFloat16: Float16Graph<Node> = {
  ruleOf: (node) => (node.op === "map" ? FLOAT16_RULES[node.attributes.function] : RULES[node.op]),
  constantOf: (node) =>
    node.op === "reshape" || node.op === "transpose" || node.op === "broadcast"
      ? kernelFloat16.constantOf(node.inputs[0])
      : node.data,
};
