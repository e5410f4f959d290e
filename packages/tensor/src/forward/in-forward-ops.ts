import type { Shape } from "../core/host-tensor.js";
import type { Ops } from "../core/ops.js";
import { GraphBuilder } from "../graph/builder.js";
import { compute } from "./compute.js";
import { reachable, type Node, type NodeOf } from "../graph/node.js";

/**
 * The same graph in operations of `Ops` that compute, for backends that have no others: further operations of gradients
 * are composed of these, and operations that only control differentiation are removed.
 */
export function inForwardOps(outputs: Readonly<Record<string, Node>>): Record<string, Node> {
  const builder = new GraphBuilder();
  const known = new Map<Node, Node>();
  const rewritten = (node: Node): Node => known.get(node)!;
  for (const node of reachable(Object.values(outputs))) known.set(node, rewrite(builder, node, rewritten));
  return Object.fromEntries(Object.entries(outputs).map(([name, node]) => [name, rewritten(node)]));
}

function rewrite(builder: GraphBuilder, node: Node, rewritten: (node: Node) => Node): Node {
  const { ops } = builder;
  const operands = node.inputs.map(rewritten);
  const [a, b] = operands as [Node, Node];
  switch (node.op) {
    case "input":
      return builder.input(node.attributes.name, node.shape, node.dtype);
    case "constant":
      return builder.constant(node.data, node.shape);
    case "stopGradient":
    case "variable":
      return a;
    case "conv2dInputGrad":
      return inputGradient(ops, node, a, b);
    case "conv2dWeightGrad":
      return weightGradient(ops, node, a, b);
    case "normalize":
      return ops.mul(centered(ops, a), inverseStd(ops, a, node.attributes.epsilon));
    case "inverseStd": {
      const normalized = node.inputs[0] as NodeOf<"normalize">;
      return inverseStd(ops, rewritten(normalized.inputs[0]), normalized.attributes.epsilon);
    }
    default:
      return compute<Node>(ops, node, operands);
  }
}

/** A convolution of the gradient, its pixels a stride apart, with the kernel turned around and its channels exchanged. */
function inputGradient(
  ops: Ops<Node>,
  { attributes, shape }: NodeOf<"conv2dInputGrad">,
  gradient: Node,
  weight: Node,
): Node {
  const { stride, padding } = attributes;
  const [top, , left] = padding;
  const [, , height = 0, width = 0] = weight.shape;
  const turned = ops.transpose(reversed(ops, reversed(ops, weight, 2), 3), [1, 0, 2, 3]);
  const whole = ops.conv2d(spread(ops, gradient, stride), turned, undefined, {
    padding: [height - 1, height - 1, width - 1, width - 1], // wherever the kernel touches the gradient
  });
  return window(ops, whole, [top, left], shape);
}

/** A convolution of the image with the gradient as its kernel, both with samples and channels exchanged. */
function weightGradient(
  ops: Ops<Node>,
  { attributes, shape }: NodeOf<"conv2dWeightGrad">,
  x: Node,
  gradient: Node,
): Node {
  const { stride, padding } = attributes;
  const exchanged = (tensor: Node): Node => ops.transpose(tensor, [1, 0, 2, 3]);
  const kernel = exchanged(spread(ops, gradient, stride));
  const products = exchanged(ops.conv2d(exchanged(x), kernel, undefined, { padding })); // [out, in, taps and more]
  return window(ops, products, [0, 0], shape);
}

/** [N, C, H, W] with stride - 1 zeros between pixels. */
function spread(ops: Ops<Node>, x: Node, stride: number): Node {
  if (stride === 1) return x;
  const [batch = 0, channels = 0, height = 0, width = 0] = x.shape;
  const zeros: [number, number] = [0, stride - 1];
  const apart = ops.pad(ops.reshape(x, [batch, channels, height, 1, width, 1]), [
    [0, 0],
    [0, 0],
    [0, 0],
    zeros,
    [0, 0],
    zeros,
  ]);
  const joined = ops.reshape(apart, [batch, channels, height * stride, width * stride]);
  return ops.slice(ops.slice(joined, 2, 0, (height - 1) * stride + 1), 3, 0, (width - 1) * stride + 1);
}

/** The pixels of [N, C, H, W] from `begin` on, as many as `shape` has; zeros beyond the end. */
function window(ops: Ops<Node>, x: Node, begin: readonly [number, number], shape: Shape): Node {
  return begin.reduce((part, first, i) => {
    const axis = 2 + i;
    const size = shape[axis] ?? 0;
    const missing = Math.max(0, first + size - (part.shape[axis] ?? 0));
    const widths = part.shape.map((_, other): [number, number] => [0, other === axis ? missing : 0]);
    return ops.slice(ops.pad(part, widths), axis, first, size);
  }, x);
}

function reversed(ops: Ops<Node>, x: Node, axis: number): Node {
  const size = x.shape[axis] ?? 0;
  const indices = ops.constant(
    Int32Array.from({ length: size }, (_, i) => size - 1 - i),
    [size],
  );
  return ops.gather(x, indices, axis);
}

function centered(ops: Ops<Node>, x: Node): Node {
  return ops.sub(x, ops.mean(x, { axes: [-1], keepDims: true }));
}

function inverseStd(ops: Ops<Node>, x: Node, epsilon: number): Node {
  const variance = ops.mean(ops.square(centered(ops, x)), { axes: [-1], keepDims: true });
  return ops.div(1, ops.sqrt(ops.add(variance, epsilon)));
}
