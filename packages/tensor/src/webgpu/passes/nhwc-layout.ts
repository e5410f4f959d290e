import { sizeOf, type Shape } from "../../core/host-tensor.js";
import { KernelGraph, reachable, type Outputs } from "../ir/graph.js";
import { isMap, type MapNode, type Node, type NodeOf } from "../ir/node.js";

/** [samples, channels, ...places] to [samples, ...places, channels]. */
const toLast = (rank: number): readonly number[] => [0, ...axes(rank).slice(2), 1];
/** The other way round. */
const toFirst = (rank: number): readonly number[] => [0, rank - 1, ...axes(rank).slice(1, -1)];
const axes = (rank: number): readonly number[] => Array.from({ length: rank }, (_, axis) => axis);
const permuted = (shape: Shape, permutation: readonly number[]): Shape => permutation.map((axis) => shape[axis]!);

/** Their operands would have to be NHWC as well. */
const isGradient = ({ op }: Node): boolean => op === "convolutionInputGradient" || op === "convolutionFilterGradient";

/**
 * Changes images to NHWC: a convolution loads several channels of a pixel at once, an image's pixels are attention's tokens
 * without a transposition, and group norms reduce over channels in place. Inputs and outputs keep their layout, and so do graphs that hold gradients of
 * convolutions.
 */
export function nhwcLayout(outputs: Outputs): Outputs {
  const nodes = reachable(Object.values(outputs));
  if (!nodes.some(({ op }) => op === "convolution") || nodes.some(isGradient)) return outputs;
  const images = new Images();
  for (const node of nodes) images.add(node);
  return Object.fromEntries(Object.entries(outputs).map(([name, node]) => [name, images.plain(node)]));
}

/** Nodes of the old graph in the new one: in their own layout, as NHWC, or both. */
class Images {
  private readonly graph = new KernelGraph();
  private readonly plains = new Map<Node, Node>();
  private readonly lasts = new Map<Node, Node>();
  /** Of norms by groups of channels: [samples, places, groups, channels of each]. */
  private readonly grouped = new Map<Node, Node>();

  add(node: Node): void {
    const grouped = this.groupNorm(node);
    if (grouped) {
      this.grouped.set(node, grouped);
      return;
    }
    const last = this.image(node);
    if (last) this.lasts.set(node, last);
    else this.plain(node);
  }

  /** The node in its own layout. */
  plain(node: Node): Node {
    const known = this.plains.get(node);
    if (known) return known;
    const last = this.lasts.get(node);
    const plain = last ? this.graph.transpose(last, toFirst(node.shape.length)) : this.copy(node);
    this.plains.set(node, plain);
    return plain;
  }

  private copy(node: Node): Node {
    const last = node.op === "transpose" ? this.lasts.get(node.inputs[0]) : undefined;
    if (node.op === "transpose" && last) {
      return this.graph.transpose(last, permuted(toFirst(node.shape.length), node.attributes.permutation));
    }
    return this.graph.copy(
      node,
      node.inputs.map((input) => this.plain(input)),
    );
  }

  /** The node with its channels last. */
  private last(node: Node): Node {
    return this.lasts.get(node) ?? this.graph.transpose(this.plain(node), toLast(node.shape.length));
  }

  private isLast(node: Node): boolean {
    return this.lasts.has(node);
  }

  /** The node with channels last, where it is an image or made of one element by element. */
  private image(node: Node): Node | undefined {
    const { graph } = this;
    const rank = node.shape.length;
    if (rank < 3) return undefined;
    const lastShape = permuted(node.shape, toLast(rank));
    switch (node.op) {
      case "convolution": {
        const [image, filters, ...bias] = node.inputs;
        const operands = [this.last(image), this.plain(filters), ...bias.map((other) => this.plain(other))] as const;
        return graph.add("convolution", operands as typeof node.inputs, { ...node.attributes, layout: "NHWC" });
      }
      case "resizeNearest": {
        const [image] = node.inputs;
        if (!this.isLast(image)) return undefined;
        return graph.add("resizeNearest", [this.last(image)], { ...node.attributes, layout: "NHWC" });
      }
      case "concat": {
        if (!node.inputs.some((other) => this.isLast(other))) return undefined;
        const parts = node.inputs.map((other) => this.last(other));
        return graph.concat(parts, toLast(rank).indexOf(node.attributes.axis), Infinity);
      }
      case "slice": {
        const { axis, begin, size } = node.attributes;
        const [input] = node.inputs;
        return this.isLast(input) ? graph.slice(this.last(input), toLast(rank).indexOf(axis), begin, size) : undefined;
      }
      case "transpose": {
        const isImage = node.attributes.permutation.every((axis, i) => axis === toFirst(rank)[i]);
        return isImage ? this.plain(node.inputs[0]) : undefined;
      }
      case "reshape":
        return this.reshaped(node, lastShape);
      default:
        return isMap(node) ? this.mapped(node) : undefined;
    }
  }

  private reshaped({ inputs: [input], shape }: NodeOf<"reshape">, lastShape: Shape): Node | undefined {
    const { graph } = this;
    const isSame = input.shape[0] === shape[0] && input.shape[1] === shape[1];
    if (this.isLast(input) && input.shape.length > 2 && isSame) return graph.reshape(this.last(input), lastShape);
    const grouped = this.grouped.get(input);
    const isWhole = grouped && grouped.shape[0] === shape[0] && grouped.shape[2]! * grouped.shape[3]! === shape[1];
    return isWhole ? graph.reshape(grouped, lastShape) : undefined;
  }

  private mapped(node: MapNode): Node | undefined {
    const { shape } = node;
    const isImage = node.inputs.some((other) => this.isLast(other) && sizeOf(other.shape) === sizeOf(shape));
    if (!isImage) return undefined;
    return this.graph.copy(
      node,
      node.inputs.map((other) => this.operand(other, shape.length)),
    );
  }

  /** The rank of an image, for operations that have one. */
  private operand(node: Node, rank: number): Node {
    const { graph } = this;
    if (sizeOf(node.shape) === 1) return this.plain(node);
    if (node.shape.length === rank) return this.last(node);
    const shape = [...Array<number>(rank - node.shape.length).fill(1), ...node.shape];
    return graph.transpose(graph.reshape(this.plain(node), shape), toLast(rank));
  }

  /** A norm over each group of an image's channels, in NHWC, without a transposition. */
  private groupNorm(node: Node): Node | undefined {
    if (node.op !== "normalize") return undefined;
    const [rows] = node.inputs;
    if (rows.op !== "reshape" || rows.shape.length !== 2) return undefined;
    const [image] = rows.inputs;
    const [samples = 1, channels = 1, ...places] = image.shape;
    const groups = rows.shape[0]! / samples;
    if (!this.isLast(image) || channels % groups !== 0) return undefined;
    const grouped = this.graph.reshape(this.last(image), [samples, sizeOf(places), groups, channels / groups]);
    return this.graph.add("normalize", [grouped], { ...node.attributes, axes: [1, 3] });
  }
}
