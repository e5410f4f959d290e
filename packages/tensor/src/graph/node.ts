import type { DType, HostData, Shape } from "../core/host-tensor.js";

/** The operations of the recorded graph: the primitives of `Ops`, and what their gradients need besides. */
export type OpName =
  | "input"
  | "constant"
  | "neg"
  | "abs"
  | "sign"
  | "exp"
  | "log"
  | "sqrt"
  | "sin"
  | "cos"
  | "tanh"
  | "sigmoid"
  | "relu"
  | "erf"
  | "floor"
  | "add"
  | "sub"
  | "mul"
  | "div"
  | "pow"
  | "maximum"
  | "minimum"
  | "equal"
  | "greater"
  | "less"
  | "where"
  | "sum"
  | "mean"
  | "max"
  | "argMax"
  | "softmax"
  | "matmul"
  | "conv2d"
  /** Gradient of conv2d with respect to its input: inputs (gradient, weight). */
  | "conv2dInputGrad"
  /** Gradient of conv2d with respect to its weight: inputs (input, gradient). */
  | "conv2dWeightGrad"
  | "avgPool2d"
  | "maxPool2d"
  | "resizeNearest"
  | "reshape"
  | "transpose"
  | "broadcastTo"
  | "concat"
  | "slice"
  | "pad"
  | "gather"
  | "cast"
  | "stopGradient"
  /** The same value under another identity: what a function is differentiated by, apart from other uses of it. */
  | "variable"
  /** (x - mean) / sqrt(variance + epsilon) over the last axis. */
  | "normalize"
  /** 1 / sqrt(variance + epsilon) of the `normalize` node that is its input; last axis 1. */
  | "inverseStd";

/** What distinguishes two nodes of one operation and the same inputs. Plain data; it is part of the node's identity. */
export interface Attributes {
  readonly name?: string;
  readonly axis?: number;
  readonly axes?: readonly number[];
  readonly keepDims?: boolean;
  readonly exponent?: number;
  readonly transposeA?: boolean;
  readonly transposeB?: boolean;
  readonly stride?: number;
  /** [top, bottom, left, right] */
  readonly padding?: readonly [number, number, number, number];
  readonly k?: number;
  readonly begin?: number;
  readonly widths?: readonly (readonly [number, number])[];
  readonly permutation?: readonly number[];
  readonly epsilon?: number;
  /** Images are [samples, height, width, channels]. */
  readonly channelsLast?: boolean;
  /** Of a convolution: how many times each pixel is repeated along either axis before. */
  readonly enlarged?: number;
}

/** One value of a recorded graph. Nodes are immutable; `id` grows from inputs to outputs. */
export interface Node {
  readonly id: number;
  readonly op: OpName;
  readonly inputs: readonly Node[];
  readonly attributes: Attributes;
  readonly shape: Shape;
  readonly dtype: DType;
  /** Of constants only. */
  readonly data?: HostData;
}

/** A gradient rule for a value as a function of chosen ancestors, in place of the chain through the nodes between. */
export interface CustomGradient {
  readonly primals: readonly Node[];
  readonly rule: (gradient: Node) => readonly (Node | undefined)[];
}

/** Everything that the outputs depend on, each node after those that it is made of. */
export function reachable(outputs: readonly Node[]): readonly Node[] {
  const found = new Set(outputs);
  for (const node of found) for (const input of node.inputs) found.add(input); // a Set's iteration sees what is added
  return [...found].sort((a, b) => a.id - b.id);
}

/** Operations whose result is their operand's memory under another shape or name. */
const KEEPS_MEMORY: ReadonlySet<OpName> = new Set(["reshape", "stopGradient", "variable"]);

/** The node that a value's memory belongs to. */
export function memoryOf(node: Node): Node {
  const [source] = node.inputs;
  return KEEPS_MEMORY.has(node.op) && source ? memoryOf(source) : node;
}
