import { SdxsError } from "../core/errors.js";
import { sizeOf, type Shape } from "../core/host-tensor.js";
import type { GraphOps } from "./graph-ops.js";
import type { BinaryName, UnaryName } from "./elementwise.js";
import { applyRule, type Node, type NodeOf, type OneOf, type OpName } from "./node.js";
import { reducedShape, sameShape } from "../core/shapes.js";

/**
 * A vector-Jacobian product: the gradients of a node's operands, given that of its result. Rules use the forward operations
 * only, so their results can be differentiated again.
 *
 * @param needed for each operand, whether its gradient is needed
 */
type Rule<Op extends OpName> = (
  node: NodeOf<Op>,
  ops: GraphOps,
  gradient: Node,
  needed: readonly boolean[],
) => readonly (Node | undefined)[];

/** Gradients of `node`'s operands, undefined for those that are not needed. */
export function vjp(
  ops: GraphOps,
  node: Node,
  gradient: Node,
  needed: readonly boolean[],
): readonly (Node | undefined)[] {
  return applyRule(rules, node, ops, gradient, needed);
}

/** Sums a gradient over the axes along which an operand of this shape was broadcast. */
function unbroadcast(ops: GraphOps, gradient: Node, shape: Shape): Node {
  if (sameShape(gradient.shape, shape)) return gradient;
  const extra = gradient.shape.length - shape.length;
  const axes = gradient.shape.flatMap((size, axis) =>
    axis < extra || (shape[axis - extra] === 1 && size !== 1) ? [axis] : [],
  );
  return ops.reshape(ops.sum(gradient, { axes }), shape);
}

/** A rule for `f(x)` from its derivative, given x and f(x). */
const unary =
  (derivative: (ops: GraphOps, x: Node, y: Node) => Node): Rule<UnaryName> =>
  (node, ops, gradient) => [ops.mul(gradient, derivative(ops, node.inputs[0], node))];

/** A rule for a broadcasting binary operation from its two partial gradients. */
const binary =
  (left: (ops: GraphOps, g: Node, a: Node, b: Node, y: Node) => Node, right: typeof left): Rule<BinaryName> =>
  (node, ops, gradient, needed) => {
    const [a, b] = node.inputs;
    return [
      needed[0] ? unbroadcast(ops, left(ops, gradient, a, b, node), a.shape) : undefined,
      needed[1] ? unbroadcast(ops, right(ops, gradient, a, b, node), b.shape) : undefined,
    ];
  };

/** Piecewise constant, or not to be differentiated. */
const none = (node: Node): readonly undefined[] => node.inputs.map(() => undefined);

const withoutGradient = (node: Node): never => {
  throw new SdxsError(
    "UNSUPPORTED_OPERATION",
    `The operation "${node.op}" has no gradient. Put stopGradient around it.`,
  );
};

const rules: { readonly [Op in OpName]: Rule<Op> } = {
  input: none,
  constant: none,
  neg: (_node, ops, g) => [ops.neg(g)],
  abs: unary((ops, x) => ops.sign(x)),
  sign: none,
  exp: unary((_ops, _x, y) => y),
  log: (node, ops, g) => [ops.div(g, node.inputs[0])],
  sqrt: (node, ops, g) => [ops.div(ops.mul(g, 0.5), node)],
  sin: unary((ops, x) => ops.cos(x)),
  cos: unary((ops, x) => ops.neg(ops.sin(x))),
  tanh: unary((ops, _x, y) => ops.sub(1, ops.mul(y, y))),
  sigmoid: unary((ops, _x, y) => ops.mul(y, ops.sub(1, y))),
  relu: (node, ops, g) => [ops.where(ops.greater(node, 0), g, 0)],
  erf: unary((ops, x) => ops.mul(ops.exp(ops.neg(ops.mul(x, x))), 2 / Math.sqrt(Math.PI))),
  floor: none,

  add: binary(
    (_ops, g) => g,
    (_ops, g) => g,
  ),
  sub: binary(
    (_ops, g) => g,
    (ops, g) => ops.neg(g),
  ),
  mul(node, ops, g, needed) {
    const [a, b] = node.inputs;
    // x * x: one product instead of two and their sum.
    if (a === b) return [ops.mul(ops.mul(g, a), 2), undefined];
    return [
      needed[0] ? unbroadcast(ops, ops.mul(g, b), a.shape) : undefined,
      needed[1] ? unbroadcast(ops, ops.mul(g, a), b.shape) : undefined,
    ];
  },
  div: binary(
    (ops, g, _a, b) => ops.div(g, b),
    (ops, g, _a, b, y) => ops.neg(ops.div(ops.mul(g, y), b)),
  ),
  pow: (node, ops, g) => [ops.mul(g, powDerivative(ops, node))],
  maximum: binary(
    (ops, g, a, b) => ops.where(ops.less(a, b), 0, g),
    (ops, g, a, b) => ops.where(ops.less(a, b), g, 0),
  ),
  minimum: binary(
    (ops, g, a, b) => ops.where(ops.greater(a, b), 0, g),
    (ops, g, a, b) => ops.where(ops.greater(a, b), g, 0),
  ),
  equal: none,
  greater: none,
  less: none,
  where(node, ops, g, needed) {
    const [condition, a, b] = node.inputs;
    return [
      undefined,
      needed[1] ? unbroadcast(ops, ops.where(condition, g, 0), a.shape) : undefined,
      needed[2] ? unbroadcast(ops, ops.where(condition, 0, g), b.shape) : undefined,
    ];
  },

  sum: (node, ops, g) => [ops.broadcastTo(keptDims(ops, node, g), node.inputs[0].shape)],
  mean(node, ops, g) {
    const [x] = node.inputs;
    const share = sizeOf(node.shape) / sizeOf(x.shape);
    return [ops.broadcastTo(ops.mul(keptDims(ops, node, g), share), x.shape)];
  },
  max(node, ops, g) {
    const [x] = node.inputs;
    const isMax = ops.cast(ops.equal(x, keptDims(ops, node, node)), "float32");
    const count = ops.sum(isMax, { axes: node.attributes.axes, keepDims: true });
    return [ops.mul(isMax, ops.div(keptDims(ops, node, g), count))];
  },
  argMax: none,
  softmax(node, ops, g) {
    const weighted = ops.mul(g, node);
    const total = ops.sum(weighted, { axes: [node.attributes.axis], keepDims: true });
    return [ops.sub(weighted, ops.mul(node, total))];
  },

  matmul(node, ops, g, needed) {
    const [a, b] = node.inputs;
    const { transposeA, transposeB } = node.attributes;
    const gradientA = (): Node =>
      transposeA
        ? ops.matmul(b, g, { transposeA: transposeB, transposeB: true })
        : ops.matmul(g, b, { transposeB: !transposeB });
    const gradientB = (): Node =>
      transposeB
        ? ops.matmul(g, a, { transposeA: true, transposeB: transposeA })
        : ops.matmul(a, g, { transposeA: !transposeA });
    return [
      needed[0] ? unbroadcast(ops, gradientA(), a.shape) : undefined,
      needed[1] ? unbroadcast(ops, gradientB(), b.shape) : undefined,
    ];
  },
  conv2d(node, ops, g, needed) {
    const [x, weight] = node.inputs;
    const { stride, padding } = node.attributes;
    return [
      needed[0] ? ops.conv2dInputGrad(g, weight, x, stride, padding) : undefined,
      needed[1] ? ops.conv2dWeightGrad(x, g, weight, stride, padding) : undefined,
      needed[2]
        ? ops.sum(ops.sum(ops.reshape(g, [...g.shape.slice(0, 2), -1]), { axes: [2] }), { axes: [0] })
        : undefined,
    ];
  },
  conv2dInputGrad(node, ops, g, needed) {
    const [gradient, weight] = node.inputs;
    const { stride, padding } = node.attributes;
    return [
      needed[0] ? ops.conv2d(g, weight, undefined, { stride, padding }) : undefined,
      needed[1] ? ops.conv2dWeightGrad(g, gradient, weight, stride, padding) : undefined,
    ];
  },
  conv2dWeightGrad(node, ops, g, needed) {
    const [x, gradient] = node.inputs;
    const { stride, padding } = node.attributes;
    return [
      needed[0] ? ops.conv2dInputGrad(gradient, g, x, stride, padding) : undefined,
      needed[1] ? ops.conv2d(x, g, undefined, { stride, padding }) : undefined,
    ];
  },
  avgPool2d(node, ops, g) {
    const { k } = node.attributes;
    return [ops.mul(ops.resizeNearest(g, imageSize(node.inputs[0])), 1 / (k * k))];
  },
  maxPool2d(node, ops, g) {
    const [x] = node.inputs;
    const { k } = node.attributes;
    const isMax = ops.cast(ops.equal(x, ops.resizeNearest(node, imageSize(x))), "float32");
    const count = ops.mul(ops.avgPool2d(isMax, k), k * k);
    return [ops.mul(isMax, ops.resizeNearest(ops.div(g, count), imageSize(x)))];
  },
  resizeNearest(node, ops, g) {
    const [oldHeight, oldWidth] = imageSize(node.inputs[0]);
    const [height, width] = imageSize(node);
    const k = height / oldHeight;
    if (Number.isInteger(k) && width / oldWidth === k) return [ops.mul(ops.avgPool2d(g, k), k * k)];
    const rows = selection(ops, oldHeight, height); // [height, oldHeight]
    const columns = selection(ops, oldWidth, width); // [width, oldWidth]
    return [ops.matmul(rows, ops.matmul(g, columns), { transposeA: true })];
  },

  reshape: (node, ops, g) => [ops.reshape(g, node.inputs[0].shape)],
  transpose(node, ops, g) {
    const { permutation } = node.attributes;
    return [
      ops.transpose(
        g,
        permutation.map((_, axis) => permutation.indexOf(axis)),
      ),
    ];
  },
  broadcastTo: (node, ops, g) => [unbroadcast(ops, g, node.inputs[0].shape)],
  concat(node, ops, g) {
    const { axis } = node.attributes;
    let begin = 0;
    return node.inputs.map((x) => {
      const size = x.shape[axis] ?? 0;
      begin += size;
      return ops.slice(g, axis, begin - size, size);
    });
  },
  slice(node, ops, g) {
    const { axis, begin } = node.attributes;
    const [x] = node.inputs;
    const after = (x.shape[axis] ?? 0) - begin - (node.shape[axis] ?? 0);
    return [
      ops.pad(
        g,
        x.shape.map((_, i) => (i === axis ? [begin, after] : [0, 0])),
      ),
    ];
  },
  pad(node, ops, g) {
    const [x] = node.inputs;
    return [
      node.attributes.widths.reduce((part, [before], axis) => ops.slice(part, axis, before, x.shape[axis] ?? 0), g),
    ];
  },
  gather(node, ops, g) {
    const [x, indices] = node.inputs;
    const { axis } = node.attributes;
    const rows = x.shape[axis] ?? 0;
    const flat = ops.reshape(indices, [-1, 1]);
    const range = ops.constant(
      Int32Array.from({ length: rows }, (_, i) => i),
      [1, rows],
    );
    const oneHot = ops.cast(ops.equal(flat, range), "float32"); // [indices, rows]
    // To [before, indices, after], whose product with the one-hot rows adds up repeated indices.
    const before = sizeOf(x.shape.slice(0, axis));
    const spread = ops.reshape(g, [before, sizeOf(indices.shape), -1]);
    return [ops.reshape(ops.matmul(oneHot, spread, { transposeA: true }), x.shape), undefined];
  },
  cast: (node, ops, g) => [node.inputs[0].dtype === "float32" && node.dtype === "float32" ? g : undefined],
  stopGradient: none,
  variable: (_node, _ops, g) => [g],

  normalize(node, ops, g) {
    const last = { axes: [-1], keepDims: true };
    const centered = ops.sub(ops.sub(g, ops.mean(g, last)), ops.mul(node, ops.mean(ops.mul(g, node), last)));
    return [ops.mul(centered, ops.inverseStd(node))];
  },
  // Its gradient by the normalized tensor is a custom gradient of the node: see `inverseStd` of the builder.
  inverseStd: withoutGradient,
};

/** x ** e: e * x ** (e - 1), by products where the exponent is a small whole number. */
function powDerivative(ops: GraphOps, { inputs: [x], attributes: { exponent } }: NodeOf<"pow">): Node {
  if (exponent === 2) return ops.mul(x, 2);
  return ops.mul(ops.pow(x, exponent - 1), exponent);
}

/** The 0-1 matrix of nearest-neighbour resizing, [to, from]. */
function selection(ops: GraphOps, from: number, to: number): Node {
  const matrix = new Float32Array(to * from);
  for (let i = 0; i < to; i++) matrix[i * from + Math.floor((i * from) / to)] = 1;
  return ops.constant(matrix, [to, from]);
}

/** A reduction's result with its reduced axes put back as size 1. */
function keptDims(ops: GraphOps, node: OneOf<"sum" | "mean" | "max">, value: Node): Node {
  return ops.reshape(value, reducedShape(node.inputs[0].shape, node.attributes.axes, true));
}

function imageSize(node: Node): readonly [number, number] {
  return [node.shape[2] ?? 0, node.shape[3] ?? 0];
}
