import { InvalidArgumentError, SdxsError, ShapeError } from "../core/errors.js";
import type { DType, Shape } from "../core/host-tensor.js";
import {
  broadcastShapes,
  concatShape,
  conv2dShape,
  gatherShape,
  matmulShape,
  padShape,
  pooledShape,
  reducedShape,
  resizeShape,
  sameShape,
  show,
  sliceShape,
} from "../core/shapes.js";
import { ELEMENTWISE, type BinaryName, type UnaryName } from "./elementwise.js";
import type { Attributes, Node, OpName, Operands } from "./node.js";

/** Shape and element type of a value. */
export interface TensorType {
  readonly shape: Shape;
  readonly dtype: DType;
}

type Rule<Op extends OpName> = (inputs: Operands[Op], attributes: Attributes[Op]) => TensorType;

const float = (shape: Shape): TensorType => ({ shape, dtype: "float32" });

function dtypeError(op: string, expectation: string): SdxsError {
  return new SdxsError("DTYPE_MISMATCH", `${op}: expected ${expectation}. Convert with cast.`);
}

export function requireFloat(op: string, ...operands: readonly Node[]): void {
  const other = operands.find(({ dtype }) => dtype !== "float32");
  if (other) throw dtypeError(op, `a float32 tensor, got ${other.dtype}`);
}

const unary =
  (op: UnaryName): Rule<UnaryName> =>
  ([x]) => {
    requireFloat(op, x);
    return float(x.shape);
  };

const binary =
  (op: BinaryName): Rule<BinaryName> =>
  ([a, b]) => {
    if (a.dtype !== b.dtype) throw dtypeError(op, `operands of one type, got ${a.dtype} and ${b.dtype}`);
    return {
      shape: broadcastShapes(op, a.shape, b.shape),
      dtype: ELEMENTWISE[op].result === "bool" ? "bool" : a.dtype,
    };
  };

const reduction =
  (op: "sum" | "mean" | "max"): Rule<"sum" | "mean" | "max"> =>
  ([x], { axes, keepDims }) => {
    requireFloat(op, x);
    return float(reducedShape(x.shape, axes, keepDims));
  };

const pool =
  (op: "avgPool2d" | "maxPool2d"): Rule<"avgPool2d" | "maxPool2d"> =>
  ([x], { k }) =>
    float(pooledShape(op, x.shape, k));

const same: Rule<"stopGradient" | "variable"> = ([{ shape, dtype }]) => ({ shape, dtype });

const rules: { readonly [Op in OpName]: Rule<Op> } = {
  input: (_, { shape, dtype }) => ({ shape, dtype }),
  constant: (_, { shape, dtype }) => ({ shape, dtype }),

  neg: unary("neg"),
  abs: unary("abs"),
  sign: unary("sign"),
  exp: unary("exp"),
  log: unary("log"),
  sqrt: unary("sqrt"),
  sin: unary("sin"),
  cos: unary("cos"),
  tanh: unary("tanh"),
  sigmoid: unary("sigmoid"),
  relu: unary("relu"),
  erf: unary("erf"),
  floor: unary("floor"),
  add: binary("add"),
  sub: binary("sub"),
  mul: binary("mul"),
  div: binary("div"),
  maximum: binary("maximum"),
  minimum: binary("minimum"),
  equal: binary("equal"),
  greater: binary("greater"),
  less: binary("less"),
  where([condition, a, b]) {
    if (condition.dtype !== "bool") throw dtypeError("where", `a bool condition, got ${condition.dtype}`);
    if (a.dtype !== b.dtype) throw dtypeError("where", `operands of one type, got ${a.dtype} and ${b.dtype}`);
    const shape = broadcastShapes("where", condition.shape, broadcastShapes("where", a.shape, b.shape));
    return { shape, dtype: a.dtype };
  },
  pow([x]) {
    requireFloat("pow", x);
    return float(x.shape);
  },
  cast: ([{ shape }], { dtype }) => ({ shape, dtype }),

  sum: reduction("sum"),
  mean: reduction("mean"),
  max: reduction("max"),
  argMax: ([x], { axis }) => ({ shape: reducedShape(x.shape, [axis], false), dtype: "int32" }),
  softmax([x]) {
    requireFloat("softmax", x);
    return float(x.shape);
  },
  normalize: ([x]) => float(x.shape),
  inverseStd([x]) {
    if (x.op !== "normalize") throw new InvalidArgumentError("inverseStd: expected a normalize node.");
    return float([...x.shape.slice(0, -1), 1]);
  },

  matmul([a, b], { transposeA, transposeB }) {
    requireFloat("matmul", a, b);
    return float(matmulShape(a.shape, b.shape, transposeA, transposeB));
  },
  conv2d: ([x, weight, bias], { stride, padding }) =>
    float(conv2dShape(x.shape, weight.shape, bias?.shape, stride, padding)),
  conv2dInputGrad: (_, { shape }) => float(shape),
  conv2dWeightGrad: (_, { shape }) => float(shape),
  avgPool2d: pool("avgPool2d"),
  maxPool2d: pool("maxPool2d"),
  resizeNearest: ([x], { size }) => float(resizeShape(x.shape, size)),

  reshape: ([{ dtype }], { shape }) => ({ shape, dtype }),
  transpose: ([x], { permutation }) => ({ shape: permutation.map((axis) => x.shape[axis] ?? 0), dtype: x.dtype }),
  broadcastTo([x], { shape }) {
    if (!sameShape(broadcastShapes("broadcastTo", x.shape, shape), shape)) {
      throw new ShapeError(`broadcastTo: ${show(x.shape)} does not broadcast to ${show(shape)}.`);
    }
    return { shape, dtype: x.dtype };
  },
  concat(xs, { axis }) {
    const [first, ...others] = xs;
    const shape = concatShape(
      xs.map((x) => x.shape),
      axis,
    );
    const other = others.find(({ dtype }) => dtype !== first.dtype);
    if (other) throw dtypeError("concat", `tensors of one type, got ${first.dtype} and ${other.dtype}`);
    return { shape, dtype: first.dtype };
  },
  slice: ([x], { axis, begin, size }) => ({ shape: sliceShape(x.shape, axis, begin, size), dtype: x.dtype }),
  pad: ([x], { widths }) => ({ shape: padShape(x.shape, widths), dtype: x.dtype }),
  gather([x, indices], { axis }) {
    if (indices.dtype !== "int32") throw dtypeError("gather", `int32 indices, got ${indices.dtype}`);
    return { shape: gatherShape(x.shape, indices.shape, axis), dtype: x.dtype };
  },

  stopGradient: same,
  variable: same,
};

/**
 * Shape and element type of an operation's result.
 *
 * @throws ShapeError, or SdxsError with code DTYPE_MISMATCH, where the operands do not fit the operation
 */
export function inferType<Op extends OpName>(op: Op, inputs: Operands[Op], attributes: Attributes[Op]): TensorType {
  return rules[op](inputs, attributes);
}
