import type { DType, HostData, Shape } from "../core/host-tensor.js";
import type { BinaryName, ElementwiseName, UnaryName } from "./elementwise.js";

/** [top, bottom, left, right] */
export type Sides = readonly [top: number, bottom: number, left: number, right: number];

type None = Readonly<Record<string, never>>;

interface Reduction {
  readonly axes: readonly number[];
  readonly keepDims: boolean;
}

interface Window {
  readonly stride: number;
  readonly padding: Sides;
}

/**
 * The operations of the recorded graph, each with its attributes: the primitives of `Ops`, and further ones for gradients.
 * Attributes are plain data. Nodes of the same operation, operands and attributes are the same node.
 */
export interface Attributes extends Readonly<Record<ElementwiseName, None>> {
  readonly input: { readonly name: string; readonly shape: Shape; readonly dtype: DType };
  /** Constants of equal data have the same `key`. */
  readonly constant: { readonly key: string; readonly shape: Shape; readonly dtype: DType };
  readonly pow: { readonly exponent: number };
  readonly cast: { readonly dtype: DType };

  readonly sum: Reduction;
  readonly mean: Reduction;
  readonly max: Reduction;
  readonly argMax: { readonly axis: number };
  readonly softmax: { readonly axis: number };
  /** (x - mean) / sqrt(variance + epsilon) over the last axis. */
  readonly normalize: { readonly epsilon: number };
  /** 1 / sqrt(variance + epsilon) of the `normalize` node that is its operand; last axis 1. */
  readonly inverseStd: None;

  readonly matmul: { readonly transposeA: boolean; readonly transposeB: boolean };
  readonly conv2d: Window;
  /** Gradient of conv2d by its input, of this shape: operands (gradient, weight). */
  readonly conv2dInputGrad: Window & { readonly shape: Shape };
  /** Gradient of conv2d by its weight, of this shape: operands (input, gradient). */
  readonly conv2dWeightGrad: Window & { readonly shape: Shape };
  readonly avgPool2d: { readonly k: number };
  readonly maxPool2d: { readonly k: number };
  readonly resizeNearest: { readonly size: readonly [height: number, width: number] };

  readonly reshape: { readonly shape: Shape };
  readonly transpose: { readonly permutation: readonly number[] };
  readonly broadcastTo: { readonly shape: Shape };
  readonly concat: { readonly axis: number };
  readonly slice: { readonly axis: number; readonly begin: number; readonly size: number };
  /** [before, after] by axis. */
  readonly pad: { readonly widths: readonly (readonly [before: number, after: number])[] };
  readonly gather: { readonly axis: number };

  readonly stopGradient: None;
  /** The same value as another node: a function is differentiated by it, and not by other uses of the value. */
  readonly variable: { readonly name: string };
}

export type OpName = keyof Attributes;

type Unary = readonly [x: Node];
type Binary = readonly [a: Node, b: Node];

/** How many operands an operation takes. */
export interface Operands extends Readonly<Record<UnaryName, Unary>>, Readonly<Record<BinaryName, Binary>> {
  readonly input: readonly [];
  readonly constant: readonly [];
  readonly where: readonly [condition: Node, a: Node, b: Node];
  readonly pow: Unary;
  readonly cast: Unary;
  readonly sum: Unary;
  readonly mean: Unary;
  readonly max: Unary;
  readonly argMax: Unary;
  readonly softmax: Unary;
  readonly normalize: Unary;
  readonly inverseStd: readonly [normalized: Node];
  readonly matmul: Binary;
  readonly conv2d: readonly [x: Node, weight: Node] | readonly [x: Node, weight: Node, bias: Node];
  readonly conv2dInputGrad: readonly [gradient: Node, weight: Node];
  readonly conv2dWeightGrad: readonly [x: Node, gradient: Node];
  readonly avgPool2d: Unary;
  readonly maxPool2d: Unary;
  readonly resizeNearest: Unary;
  readonly reshape: Unary;
  readonly transpose: Unary;
  readonly broadcastTo: Unary;
  readonly concat: readonly [Node, ...Node[]];
  readonly slice: Unary;
  readonly pad: Unary;
  readonly gather: readonly [x: Node, indices: Node];
  readonly stopGradient: Unary;
  readonly variable: Unary;
}

/** One value of a recorded graph. Nodes are immutable; `id` grows from operands to results. */
export interface NodeOf<Op extends OpName> {
  readonly id: number;
  readonly op: Op;
  readonly inputs: Operands[Op];
  readonly attributes: Attributes[Op];
  readonly shape: Shape;
  readonly dtype: DType;
  readonly data: Op extends "constant" ? HostData : undefined;
}

export type OneOf<Ops extends OpName> = { readonly [Op in Ops]: NodeOf<Op> }[Ops];
export type Node = OneOf<OpName>;

/** A function of each operation's nodes: a table that lacks an operation does not compile. */
export type ByOperation<Arguments extends readonly unknown[], Result> = {
  readonly [Op in OpName]: (node: NodeOf<Op>, ...rest: Arguments) => Result;
};

/** Applies the entry of a table for a node's operation. */
export function applyRule<Arguments extends readonly unknown[], Result>(
  table: ByOperation<Arguments, Result>,
  node: Node,
  ...rest: Arguments
): Result {
  return (table[node.op] as (node: Node, ...rest: Arguments) => Result)(node, ...rest);
}

/** A gradient rule for a value as a function of chosen ancestors, in place of the chain through the nodes between. */
export interface CustomGradient {
  readonly primals: readonly Node[];
  readonly rule: (gradient: Node) => readonly (Node | undefined)[];
}

/** Everything that the outputs depend on, each node after its operands. */
export function reachable(outputs: readonly Node[]): readonly Node[] {
  const found = new Set(outputs);
  for (const node of found) for (const input of node.inputs) found.add(input); // a Set's iteration includes elements added meanwhile
  return [...found].sort((a, b) => a.id - b.id);
}

/** The node that a value's memory belongs to: some operations give it another shape or name. */
export function memoryOf(node: Node): Node {
  const isAlias = node.op === "reshape" || node.op === "stopGradient" || node.op === "variable";
  return isAlias ? memoryOf(node.inputs[0]) : node;
}
