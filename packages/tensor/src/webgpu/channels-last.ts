import { GraphBuilder } from "../graph/builder.js";
import { reachable, type Attributes, type Node } from "../graph/node.js";
import { sizeOf, type Shape } from "../core/host-tensor.js";
import { isElementwise } from "./kinds.js";

/** [samples, channels, ...places] to [samples, ...places, channels]. */
const toLast = (rank: number): readonly number[] => [0, ...axes(rank).slice(2), 1];
/** The other way round. */
const toFirst = (rank: number): readonly number[] => [0, rank - 1, ...axes(rank).slice(1, -1)];
const axes = (rank: number): readonly number[] => Array.from({ length: rank }, (_, axis) => axis);
const permuted = (shape: Shape, permutation: readonly number[]): Shape => permutation.map((axis) => shape[axis]!);

/** Its consumers read what the gradient reads: their order would have to be turned over as well. */
const isGradient = ({ op }: Node): boolean => op === "conv2dInputGrad" || op === "conv2dWeightGrad";

/**
 * The same graph with the channels of images last in memory, so that a convolution reads many at once, and attention's tokens
 * are an image's pixels as they lie. Inputs and outputs stay as they are, and so do graphs that hold gradients of convolutions.
 */
export function channelsLast(outputs: Readonly<Record<string, Node>>): Readonly<Record<string, Node>> {
  const nodes = reachable(Object.values(outputs));
  if (!nodes.some(({ op }) => op === "conv2d") || nodes.some(isGradient)) return outputs;
  const images = new Images();
  for (const node of nodes) images.add(node);
  return Object.fromEntries(Object.entries(outputs).map(([name, node]) => [name, images.plain(node)]));
}

/** Nodes of the old graph in the new one: as they were, with channels last, or both. */
class Images {
  private readonly builder = new GraphBuilder();
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

  /** The node with its axes as they were. */
  plain(node: Node): Node {
    const known = this.plains.get(node);
    if (known) return known;
    const last = this.lasts.get(node);
    const plain = last ? this.builder.ops.transpose(last, toFirst(node.shape.length)) : this.copy(node);
    this.plains.set(node, plain);
    return plain;
  }

  private copy(node: Node): Node {
    const { op, inputs, attributes, shape } = node;
    const [input] = inputs;
    const { permutation = [] } = attributes;
    const last = op === "transpose" ? this.lasts.get(input!) : undefined;
    if (last) {
      const whole = permuted(toFirst(shape.length), permutation);
      return whole.every((axis, i) => axis === i) ? last : this.builder.ops.transpose(last, whole);
    }
    return this.builder.copy(
      node,
      inputs.map((other) => this.plain(other)),
    );
  }

  private last(node: Node): Node {
    return this.lasts.get(node) ?? this.builder.ops.transpose(this.plain(node), toLast(node.shape.length));
  }

  private isLast(node: Node): boolean {
    return this.lasts.has(node);
  }

  /** The node with channels last, where it is an image or made of one element by element. */
  private image(node: Node): Node | undefined {
    const { op, inputs, attributes, shape, dtype } = node;
    const { ops } = this.builder;
    const [input] = inputs;
    const rank = shape.length;
    if (!input || rank < 3) return undefined;
    const lastShape = permuted(shape, toLast(rank));
    const add = (operands: readonly Node[], changed: Attributes = attributes): Node =>
      this.builder.add(op, operands, changed, lastShape, dtype);
    switch (op) {
      case "conv2d":
        return add([this.last(input), ...inputs.slice(1).map((other) => this.plain(other))], {
          ...attributes,
          channelsLast: true,
        });
      case "resizeNearest":
        return this.isLast(input) ? add([this.last(input)], { channelsLast: true }) : undefined;
      case "stopGradient":
      case "variable":
        return this.isLast(input) ? this.last(input) : undefined;
      case "concat":
      case "slice": {
        if (!inputs.some((other) => this.isLast(other))) return undefined;
        const axis = toLast(rank).indexOf(attributes.axis ?? 0);
        return add(
          inputs.map((other) => this.last(other)),
          { ...attributes, axis },
        );
      }
      case "transpose": {
        const isImage = attributes.permutation?.every((axis, i) => axis === toFirst(rank)[i]);
        return isImage ? this.plain(input) : undefined;
      }
      case "reshape": {
        const isSame = input.shape[0] === shape[0] && input.shape[1] === shape[1];
        if (this.isLast(input) && input.shape.length > 2 && isSame) return ops.reshape(this.last(input), lastShape);
        const grouped = this.grouped.get(input);
        const isWhole = grouped && grouped.shape[0] === shape[0] && grouped.shape[2]! * grouped.shape[3]! === shape[1];
        return isWhole ? ops.reshape(grouped, lastShape) : undefined;
      }
      default: {
        const isJoined = inputs.some((other) => this.isLast(other) && sizeOf(other.shape) === sizeOf(shape));
        if (!isElementwise(node) || !isJoined) return undefined;
        return add(inputs.map((other) => this.operand(other, rank)));
      }
    }
  }

  /** What an operation on images of so many axes has beside them. */
  private operand(node: Node, rank: number): Node {
    const { ops } = this.builder;
    if (sizeOf(node.shape) === 1) return this.plain(node);
    if (node.shape.length === rank) return this.last(node);
    const shape = [...Array<number>(rank - node.shape.length).fill(1), ...node.shape];
    return ops.transpose(ops.reshape(this.plain(node), shape), toLast(rank));
  }

  /** A norm over each group of an image's channels, which finds them where they lie. */
  private groupNorm({ op, inputs: [rows], attributes, dtype }: Node): Node | undefined {
    const image = rows?.inputs[0];
    if (op !== "normalize" || rows?.op !== "reshape" || !image || !this.isLast(image)) return undefined;
    const [samples = 1, channels = 1, ...places] = image.shape;
    const groups = rows.shape[0]! / samples;
    if (rows.shape.length !== 2 || channels % groups !== 0) return undefined;
    const shape = [samples, sizeOf(places), groups, channels / groups];
    const grouped = this.builder.ops.reshape(this.last(image), shape);
    return this.builder.add("normalize", [grouped], { ...attributes, axes: [1, 3] }, shape, dtype);
  }
}
