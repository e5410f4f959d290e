import type { DType, HostData, Shape } from "../../core/host-tensor.js";
import type { ElementwiseName } from "../../graph/elementwise.js";
import type { Sides } from "../../graph/node.js";

/** Memory layout of an image: [samples, channels, height, width] or [samples, height, width, channels]. */
export type ImageLayout = "NCHW" | "NHWC";

/**
 * The operations of the kernel graph, each with its attributes. These are plain data: nodes of the same operation, operands
 * and attributes are the same node.
 */
export interface Attributes {
  /** An input or parameter of a run, or a part of it: from element `begin` on. */
  readonly input: { readonly name: string; readonly shape: Shape; readonly dtype: DType; readonly begin: number };
  /** A tensor that is known when the program is compiled. Equal ones have the same `key`. */
  readonly constant: { readonly key: string; readonly shape: Shape; readonly dtype: DType };

  /** One function of each element. */
  readonly map: { readonly function: ElementwiseName };
  readonly cast: { readonly dtype: DType };
  /** Each element to a constant power. */
  readonly power: { readonly exponent: number };

  /** Matrix products of the last two axes of [..., rows, inner] and [..., inner, columns]; leading axes broadcast. */
  readonly gemm: { readonly transposeA: boolean; readonly transposeB: boolean };
  /**
   * Operands: an image in `layout`, its filters [out, height, width, in] and, until the pass `canonicalize`, a bias [out].
   * The image is first enlarged by `upsample` along both axes, each pixel repeated.
   */
  readonly convolution: {
    readonly stride: number;
    readonly padding: Sides;
    readonly layout: ImageLayout;
    readonly upsample: number;
  };
  /** Gradient by the image, NCHW. Operands: the gradient of the result, and the filters as [in, height, width, out]. */
  readonly convolutionInputGradient: { readonly stride: number; readonly padding: Sides; readonly shape: Shape };
  /** Gradient by the filters [out, in, height, width]. Operands: the image and the gradient of the result, NCHW. */
  readonly convolutionFilterGradient: { readonly stride: number; readonly padding: Sides; readonly shape: Shape };

  /** One value of all elements along some axes. `argMax` gives the first index of the largest, int32. */
  readonly reduction: {
    readonly function: "sum" | "mean" | "max" | "argMax";
    readonly axes: readonly number[];
    readonly keepDims: boolean;
  };
  readonly softmax: { readonly axes: readonly number[] };
  /** (x - mean) / sqrt(variance + epsilon) over some axes. */
  readonly normalize: { readonly axes: readonly number[]; readonly epsilon: number };
  /** 1 / sqrt(variance + epsilon) over some axes, which become 1. */
  readonly inverseStd: { readonly axes: readonly number[]; readonly epsilon: number };

  // Views: the operand's elements under other indices.
  readonly reshape: { readonly shape: Shape };
  readonly transpose: { readonly permutation: readonly number[] };
  readonly broadcast: { readonly shape: Shape };
  readonly slice: { readonly axis: number; readonly begin: number; readonly size: number };

  // Copies: elements of the operands, chosen by more than one affine index.
  readonly concat: { readonly axis: number };
  /** Zeros around: [before, after] by axis. */
  readonly pad: { readonly widths: readonly (readonly [number, number])[] };
  /** Rows of the first operand along `axis`, by the int32 indices of the second. */
  readonly gather: { readonly axis: number };
  readonly resizeNearest: { readonly size: readonly [height: number, width: number]; readonly layout: ImageLayout };
  /** Squares of k x k pixels to one, NCHW. */
  readonly pool: { readonly function: "average" | "max"; readonly k: number };
}

export type Operation = keyof Attributes;

/** How many operands an operation takes. */
export interface Operands {
  readonly input: readonly [];
  readonly constant: readonly [];
  readonly map: readonly [Node, ...Node[]];
  readonly cast: readonly [Node];
  readonly power: readonly [Node];
  readonly gemm: readonly [a: Node, b: Node];
  readonly convolution: readonly [image: Node, filters: Node] | readonly [image: Node, filters: Node, bias: Node];
  readonly convolutionInputGradient: readonly [gradient: Node, filters: Node];
  readonly convolutionFilterGradient: readonly [image: Node, gradient: Node];
  readonly reduction: readonly [Node];
  readonly softmax: readonly [Node];
  readonly normalize: readonly [Node];
  readonly inverseStd: readonly [Node];
  readonly reshape: readonly [Node];
  readonly transpose: readonly [Node];
  readonly broadcast: readonly [Node];
  readonly slice: readonly [Node];
  readonly concat: readonly [Node, ...Node[]];
  readonly pad: readonly [Node];
  readonly gather: readonly [table: Node, indices: Node];
  readonly resizeNearest: readonly [Node];
  readonly pool: readonly [Node];
}

/** One value of the kernel graph. Nodes are immutable; `id` grows from operands to results. */
export interface NodeOf<Op extends Operation> {
  readonly id: number;
  readonly op: Op;
  readonly inputs: Operands[Op];
  readonly attributes: Attributes[Op];
  readonly shape: Shape;
  readonly dtype: DType;
  /** Of constants only. */
  readonly data: Op extends "constant" ? HostData : undefined;
}

export type OneOf<Ops extends Operation> = { readonly [Op in Ops]: NodeOf<Op> }[Ops];
export type Node = OneOf<Operation>;

export type ConvolutionNode = OneOf<"convolution" | "convolutionInputGradient" | "convolutionFilterGradient">;
/** Operations that GEMM kernels compute: convolutions are implicit GEMMs. */
export type GemmNode = OneOf<"gemm"> | ConvolutionNode;
/** Operations on whole rows of their operand. */
export type RowNode = OneOf<"reduction" | "softmax" | "normalize" | "inverseStd">;
/** Operations that a kernel is built around. */
export type AnchorNode = GemmNode | RowNode;
export type MapNode = OneOf<"map" | "cast" | "power">;
export type ViewNode = OneOf<"reshape" | "transpose" | "broadcast" | "slice">;
/** Values that are given before anything is computed. */
export type GivenNode = OneOf<"input" | "constant">;

type Kind = "given" | "map" | "gemm" | "rows" | "view" | "copy";

const KINDS: { readonly [Op in Operation]: Kind } = {
  input: "given",
  constant: "given",
  map: "map",
  cast: "map",
  power: "map",
  gemm: "gemm",
  convolution: "gemm",
  convolutionInputGradient: "gemm",
  convolutionFilterGradient: "gemm",
  reduction: "rows",
  softmax: "rows",
  normalize: "rows",
  inverseStd: "rows",
  reshape: "view",
  transpose: "view",
  broadcast: "view",
  slice: "view",
  concat: "copy",
  pad: "copy",
  gather: "copy",
  resizeNearest: "copy",
  pool: "copy",
};

export const isGiven = (node: Node): node is GivenNode => KINDS[node.op] === "given";
export const isMap = (node: Node): node is MapNode => KINDS[node.op] === "map";
export const isGemm = (node: Node): node is GemmNode => KINDS[node.op] === "gemm";
export const isRows = (node: Node): node is RowNode => KINDS[node.op] === "rows";
export const isAnchor = (node: Node): node is AnchorNode => isGemm(node) || isRows(node);
export const isView = (node: Node): node is ViewNode => KINDS[node.op] === "view";
/** Each element is computed from those at the same place, but for operands that broadcast. */
export const isElementwise = (node: Node): node is MapNode | NodeOf<"reshape"> => isMap(node) || node.op === "reshape";
