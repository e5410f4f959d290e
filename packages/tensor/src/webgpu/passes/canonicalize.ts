import { sizeOf } from "../../core/host-tensor.js";
import { sameShape } from "../../core/shapes.js";
import { KernelGraph, reachable, type Outputs } from "../ir/graph.js";
import type { Node, NodeOf } from "../ir/node.js";
import { literal } from "../kernels/literal.js";
import type { PassLimits } from "./limits.js";

/** GEMMs of at most this many rows become reductions: chosen. */
const FEW_ROWS = 4;

/**
 * Rewrites equivalent forms to one: a bias becomes an addition after its convolution, a pointwise convolution a GEMM, a GEMM of
 * few rows a reduction; a factor of a GEMM's operand multiplies its result, a convolution upsamples its image itself, and many
 * tensors are concatenated in steps.
 *
 * Afterwards no convolution has a bias, and no node reads more than `maxBuffers` others.
 */
export function canonicalize(outputs: Outputs, { maxBuffers }: PassLimits): Outputs {
  const graph = new KernelGraph();
  const known = new Map<Node, Node>();
  for (const node of reachable(Object.values(outputs))) {
    const inputs = node.inputs.map((input) => known.get(input)!);
    known.set(node, canonical(graph, node, inputs, maxBuffers));
  }
  return Object.fromEntries(Object.entries(outputs).map(([name, node]) => [name, known.get(node)!]));
}

function canonical(graph: KernelGraph, node: Node, inputs: readonly Node[], maxBuffers: number): Node {
  const [a, b, bias] = inputs as [Node, Node, Node | undefined];
  switch (node.op) {
    case "convolution": {
      const product = isPointwise(node) ? pointwise(graph, node, a, b) : convolution(graph, node, a, b);
      if (!bias) return product;
      const isLast = node.attributes.layout === "NHWC";
      return graph.map("add", product, isLast ? bias : graph.reshape(bias, [1, sizeOf(bias.shape), 1, 1]));
    }
    case "concat":
      return graph.concat(inputs, node.attributes.axis, maxBuffers);
    case "gemm":
      return gemm(graph, node, a, b);
    default:
      return graph.copy(node, inputs);
  }
}

function gemm(graph: KernelGraph, { attributes, shape }: NodeOf<"gemm">, a: Node, b: Node): Node {
  const { transposeA, transposeB } = attributes;
  const isScaled = a.op === "map" && a.attributes.function === "mul";
  const factor = isScaled ? a.inputs.find((input) => literal(input) !== undefined) : undefined;
  const plain = isScaled ? a.inputs.find((input) => input !== factor) : undefined;
  if (factor && plain && sameShape(plain.shape, a.shape)) {
    // Attention's scale.
    return graph.map("mul", graph.gemm(plain, b, attributes), factor);
  }
  const [rows = 1, columns = 1] = shape.slice(-2);
  if (shape.length !== 2 || rows > FEW_ROWS || !transposeB || transposeA) return graph.gemm(a, b, attributes);
  const inner = a.shape[1]!;
  const products = graph.map("mul", graph.reshape(a, [rows, 1, inner]), graph.reshape(b, [1, columns, inner]));
  return graph.add("reduction", [products], { function: "sum", axes: [2], keepDims: false });
}

/** Whether a convolution's windows are single pixels, each once. */
function isPointwise({
  inputs: [, filters],
  attributes: { stride, padding, upsample },
}: NodeOf<"convolution">): boolean {
  const [, height, width] = filters.shape;
  return height === 1 && width === 1 && stride === 1 && upsample === 1 && padding.every((side) => side === 0);
}

function pointwise(graph: KernelGraph, { shape, attributes }: NodeOf<"convolution">, x: Node, filters: Node): Node {
  const channels = filters.shape[3]!;
  const matrix = graph.reshape(filters, [filters.shape[0]!, channels]);
  if (attributes.layout === "NHWC") {
    const rows = graph.reshape(x, [sizeOf(x.shape) / channels, channels]);
    return graph.reshape(graph.gemm(rows, matrix, { transposeB: true }), shape);
  }
  const [batch = 1] = x.shape;
  const pixels = sizeOf(x.shape) / (batch * channels);
  return graph.reshape(graph.gemm(matrix, graph.reshape(x, [batch, channels, pixels])), shape);
}

/** Upsamples the image itself, where the image is upsampled by a whole factor. */
function convolution(graph: KernelGraph, { attributes }: NodeOf<"convolution">, x: Node, filters: Node): Node {
  if (x.op === "resizeNearest" && attributes.layout === "NHWC") {
    const [image] = x.inputs;
    const [alongY = 1, alongX = 1] = [1, 2].map((axis) => x.shape[axis]! / image.shape[axis]!);
    if (alongY === alongX && Number.isInteger(alongY)) {
      return graph.add("convolution", [image, filters], { ...attributes, upsample: alongY });
    }
  }
  return graph.add("convolution", [x, filters], attributes);
}

/** No convolution has a bias. */
export const hasNoBias = (node: Node): string | undefined =>
  node.op === "convolution" && node.inputs.length > 2 ? "has a bias" : undefined;

/** A kernel can bind all operands of a node. */
export const readsAtMost =
  (maxBuffers: number) =>
  ({ inputs }: Node): string | undefined =>
    inputs.length > maxBuffers ? `reads ${inputs.length} tensors, a kernel at most ${maxBuffers}` : undefined;
