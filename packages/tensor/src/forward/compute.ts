import { SdxsError } from "../core/errors.js";
import type { MatmulOptions, Ops, ReduceOptions } from "../core/ops.js";
import type { Node } from "../graph/node.js";

type Binary = "add" | "sub" | "mul" | "div" | "maximum" | "minimum" | "equal" | "greater" | "less";
type Reduction = "sum" | "mean" | "max";

/** Operations that a recorded graph expresses as data or by others, or does not need after differentiation. */
type Unneeded = "constant" | "scalar" | "square" | "stopGradient" | "valueAndGrad" | "fused";

/**
 * The operations of `Ops` that compute, without differentiation. Their arguments come from a recorded graph, are checked
 * and have one form: operands are tensors that broadcast, axes are given and count from the start, paddings name four
 * sides, and no size is -1. Each result is disposed of separately from its operands.
 */
export interface ForwardOps<T>
  extends
    Omit<Ops<T>, Unneeded | Binary | Reduction | "where" | "matmul" | "conv2d">,
    Record<Binary, (a: T, b: T) => T>,
    Record<Reduction, (x: T, options: Required<ReduceOptions>) => T> {
  where(condition: T, a: T, b: T): T;
  matmul(a: T, b: T, options: Required<MatmulOptions>): T;
  conv2d(x: T, weight: T, bias: T | undefined, options: ForwardConv2dOptions): T;
}

export interface ForwardConv2dOptions {
  readonly stride: number;
  readonly padding: readonly [top: number, bottom: number, left: number, right: number];
}

/** The value of a node from those of its inputs; `inForwardOps` has replaced operations that `Ops` does not have. */
export function compute<T>(ops: ForwardOps<T>, node: Node, operands: readonly T[]): T {
  const [a, b, c] = operands as [T, T, T];
  switch (node.op) {
    case "neg":
    case "abs":
    case "sign":
    case "exp":
    case "log":
    case "sqrt":
    case "sin":
    case "cos":
    case "tanh":
    case "sigmoid":
    case "relu":
    case "erf":
    case "floor":
      return ops[node.op](a);
    case "add":
    case "sub":
    case "mul":
    case "div":
    case "maximum":
    case "minimum":
    case "equal":
    case "greater":
    case "less":
      return ops[node.op](a, b);
    case "pow":
      return ops.pow(a, node.attributes.exponent);
    case "where":
      return ops.where(a, b, c);
    case "sum":
    case "mean":
    case "max":
      return ops[node.op](a, node.attributes);
    case "argMax":
    case "softmax":
      return ops[node.op](a, node.attributes.axis);
    case "matmul":
      return ops.matmul(a, b, node.attributes);
    case "conv2d":
      return ops.conv2d(a, b, operands[2], node.attributes);
    case "avgPool2d":
    case "maxPool2d":
      return ops[node.op](a, node.attributes.k);
    case "resizeNearest":
      return ops.resizeNearest(a, node.attributes.size);
    case "transpose":
      return ops.transpose(a, node.attributes.permutation);
    case "broadcastTo":
      return ops.broadcastTo(a, node.shape);
    case "concat":
      return ops.concat(operands, node.attributes.axis);
    case "slice":
      return ops.slice(a, node.attributes.axis, node.attributes.begin, node.attributes.size);
    case "pad":
      return ops.pad(a, node.attributes.widths);
    case "gather":
      return ops.gather(a, b, node.attributes.axis);
    case "cast":
      return ops.cast(a, node.dtype);
    case "reshape":
      return ops.reshape(a, node.shape);
    case "input":
    case "constant":
    case "normalize":
    case "inverseStd":
    case "conv2dInputGrad":
    case "conv2dWeightGrad":
    case "stopGradient":
    case "variable":
      throw new SdxsError("UNSUPPORTED_OPERATION", `The operation "${node.op}" is not one of \`Ops\` that compute.`);
  }
}
