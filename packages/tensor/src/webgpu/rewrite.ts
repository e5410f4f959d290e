import { GraphBuilder } from "../graph/builder.js";
import { reachable, type Node } from "../graph/node.js";
import { sameShape } from "../core/shapes.js";
import { sizeOf } from "../core/host-tensor.js";
import { literal } from "./literal.js";

/** Products of fewer rows are sums of one row each: chosen. */
const FEW_ROWS = 4;

/**
 * The same graph as the kernels want it: what only guides differentiation is gone, weights of convolutions lie in the order in
 * which they are read, convolutions of single pixels are matrix products, products of few rows are sums, and many
 * tensors are joined in steps.
 *
 * @param maxBuffers which a kernel may read
 */
export function rewrite(outputs: Readonly<Record<string, Node>>, maxBuffers: number): Record<string, Node> {
  const builder = new GraphBuilder();
  const known = new Map<Node, Node>();
  for (const node of reachable(Object.values(outputs))) {
    const operands = node.inputs.map((input) => known.get(input)!);
    known.set(node, rewritten(builder, node, operands, maxBuffers));
  }
  return Object.fromEntries(Object.entries(outputs).map(([name, node]) => [name, known.get(node)!]));
}

function rewritten(builder: GraphBuilder, node: Node, operands: readonly Node[], maxBuffers: number): Node {
  const { ops } = builder;
  const { op, attributes, shape, dtype } = node;
  const [a, b, bias] = operands as [Node, Node, Node | undefined];
  const add = (inputs: readonly Node[]): Node => builder.copy(node, inputs);
  switch (op) {
    case "stopGradient":
    case "variable":
      return a;
    case "inverseStd":
      // Of what was normalized.
      return builder.add(op, [a.inputs[0]!], { epsilon: a.attributes.epsilon ?? 0 }, shape, dtype);
    case "conv2d": {
      const product = isPointwise(node) ? pointwise(builder, node, a, b) : convolution(builder, node, a, b);
      return bias ? ops.add(product, attributes.channelsLast ? bias : ops.reshape(bias, [1, -1, 1, 1])) : product;
    }
    case "conv2dInputGrad":
      return add([a, ops.transpose(b, [1, 2, 3, 0])]);
    case "concat":
      return concatenated(builder, operands, attributes.axis ?? 0, maxBuffers);
    case "matmul": {
      const { transposeA = false, transposeB = false } = attributes;
      const [rows = 1, columns = 1] = shape.slice(-2);
      const inner = a.shape.at(transposeA ? -2 : -1) ?? 1;
      const factor = a.op === "mul" ? a.inputs.find((input) => literal(input) !== undefined) : undefined;
      const plain = a.inputs.find((input) => input !== factor);
      if (factor && plain && sameShape(plain.shape, a.shape)) {
        // Attention's scale: the result takes it without a kernel of its own.
        return ops.mul(add([plain, b]), factor);
      }
      if (shape.length !== 2 || rows > FEW_ROWS || !transposeB || transposeA) return add(operands);
      return ops.sum(ops.mul(ops.reshape(a, [rows, 1, inner]), ops.reshape(b, [1, columns, inner])), { axes: [2] });
    }
    default:
      return add(operands);
  }
}

/** Tensors one after the other, joined at most so many at a time. */
export function concatenated(builder: GraphBuilder, parts: readonly Node[], axis: number, most: number): Node {
  if (parts.length <= most) return builder.ops.concat(parts, axis);
  const joined = Array.from({ length: Math.ceil(parts.length / most) }, (_, i) =>
    builder.ops.concat(parts.slice(i * most, (i + 1) * most), axis),
  );
  return concatenated(builder, joined, axis, most);
}

/** Whether a convolution's windows are single pixels, each once. */
function isPointwise({ inputs: [, weight], attributes }: Node): boolean {
  const [, , height, width] = weight?.shape ?? [];
  const { stride = 1, padding = [] } = attributes;
  return height === 1 && width === 1 && stride === 1 && padding.every((side) => side === 0);
}

function pointwise({ ops }: GraphBuilder, { shape, attributes }: Node, x: Node, weight: Node): Node {
  if (attributes.channelsLast) {
    const channels = x.shape[3]!;
    const rows = ops.reshape(x, [sizeOf(x.shape) / channels, channels]);
    return ops.reshape(ops.matmul(rows, ops.reshape(weight, [-1, channels]), { transposeB: true }), shape);
  }
  const [batch = 1, channels = 1] = x.shape;
  const pixels = sizeOf(x.shape) / (batch * channels);
  const product = ops.matmul(ops.reshape(weight, [-1, channels]), ops.reshape(x, [batch, channels, pixels]));
  return ops.reshape(product, shape);
}

/** Reads an enlarged image where it was before. */
function convolution(builder: GraphBuilder, { op, attributes, shape, dtype }: Node, x: Node, weight: Node): Node {
  const before = x.op === "resizeNearest" && attributes.channelsLast ? x.inputs[0]! : x;
  const [enlarged = 1, alongX = 1] = [1, 2].map((axis) => x.shape[axis]! / before.shape[axis]!);
  const isWhole = enlarged === alongX && Number.isInteger(enlarged);
  const image = isWhole ? before : x;
  const ordered = builder.ops.transpose(weight, [0, 2, 3, 1]);
  return builder.add(
    op,
    [image, ordered],
    isWhole && enlarged > 1 ? { ...attributes, enlarged } : attributes,
    shape,
    dtype,
  );
}
