import { givenShape } from "../core/arguments.js";
import { InvalidArgumentError, SdxsError, ShapeError } from "../core/errors.js";
import {
  broadcastShapes,
  concatShape,
  conv2dShape,
  fourSides,
  gatherShape,
  matmulShape,
  normalizeAxes,
  normalizeAxis,
  padShape,
  pooledShape,
  reducedShape,
  resizeShape,
  resolveReshape,
  sameShape,
  show,
  sliceShape,
  transposeAxes,
} from "../core/shapes.js";
import { HostTensor, type DType, type Shape } from "../core/host-tensor.js";
import type { Operand, Ops, ReduceOptions } from "../core/ops.js";
import { at, broadcastAt, fromHost, tabulate, type ReferenceTensor } from "./tensor.js";

/**
 * Every operation as a plain loop in double precision: slow, and easy to verify. Other adapters are tested against it;
 * it is the example to read before writing one.
 *
 * It has no gradients: `valueAndGrad` throws UNSUPPORTED_OPERATION. The conformance suite
 * differentiates it numerically.
 *
 * @example
 * const y = silu(referenceOps, fromHost(HostTensor.from([2], [1, 2])));
 */
export const referenceOps: Ops<ReferenceTensor> = {
  shape: givenShape,
  dtype: (x) => x.dtype,
  constant: (data, shape) => fromHost(new HostTensor(shape, data)),
  scalar: (value) => ({ shape: [], dtype: "float32", data: Float64Array.of(value) }),

  neg: (x) => elementwise("neg", x, (v) => -v),
  abs: (x) => elementwise("abs", x, Math.abs),
  sign: (x) => elementwise("sign", x, Math.sign),
  exp: (x) => elementwise("exp", x, Math.exp),
  log: (x) => elementwise("log", x, Math.log),
  sqrt: (x) => elementwise("sqrt", x, Math.sqrt),
  square: (x) => elementwise("square", x, (v) => v * v),
  sin: (x) => elementwise("sin", x, Math.sin),
  cos: (x) => elementwise("cos", x, Math.cos),
  tanh: (x) => elementwise("tanh", x, Math.tanh),
  sigmoid: (x) => elementwise("sigmoid", x, (v) => 1 / (1 + Math.exp(-v))),
  relu: (x) => elementwise("relu", x, (v) => Math.max(v, 0)),
  erf: (x) => elementwise("erf", x, errorFunction),
  floor: (x) => elementwise("floor", x, Math.floor),

  add: (a, b) => pairwise("add", a, b, (left, right) => left + right),
  sub: (a, b) => pairwise("sub", a, b, (left, right) => left - right),
  mul: (a, b) => pairwise("mul", a, b, (left, right) => left * right),
  div: (a, b) => pairwise("div", a, b, (left, right) => left / right),
  pow: (x, exponent) => elementwise("pow", x, (v) => v ** exponent),
  maximum: (a, b) => pairwise("maximum", a, b, Math.max),
  minimum: (a, b) => pairwise("minimum", a, b, Math.min),

  equal: (a, b) => pairwise("equal", a, b, (left, right) => Number(left === right), "bool"),
  greater: (a, b) => pairwise("greater", a, b, (left, right) => Number(left > right), "bool"),
  less: (a, b) => pairwise("less", a, b, (left, right) => Number(left < right), "bool"),
  where(condition, a, b) {
    if (condition.dtype !== "bool") throw dtypeError("where", `a bool condition, got ${condition.dtype}`);
    const [left, right] = operands("where", a, b);
    const shape = broadcastShapes("where", condition.shape, broadcastShapes("where", left.shape, right.shape));
    return tabulate(shape, left.dtype, (index) => broadcastAt(broadcastAt(condition, index) ? left : right, index));
  },

  sum: (x, options) => reduce("sum", x, options, (values) => values.reduce((sum, value) => sum + value, 0)),
  mean: (x, options) =>
    reduce("mean", x, options, (values) => values.reduce((sum, value) => sum + value, 0) / values.length),
  max: (x, options) => reduce("max", x, options, (values) => values.reduce((a, b) => Math.max(a, b))),
  argMax(x, axis) {
    const removed = normalizeAxis("argMax", axis, x.shape.length);
    const result = alongAxes(x, [removed], false, (values) => {
      const largest = values.reduce((a, b) => Math.max(a, b));
      return values.findIndex((value) => Object.is(value, largest) || value === largest);
    });
    return { ...result, dtype: "int32" };
  },
  softmax(x, axis) {
    requireFloat("softmax", x);
    const axes = [normalizeAxis("softmax", axis, x.shape.length)];
    const largest = alongAxes(x, axes, true, (values) => values.reduce((a, b) => Math.max(a, b)));
    const weights = pairwise("softmax", x, largest, (value, top) => Math.exp(value - top));
    const totals = alongAxes(weights, axes, true, (values) => values.reduce((sum, value) => sum + value, 0));
    return pairwise("softmax", weights, totals, (weight, total) => weight / total);
  },

  matmul(a, b, { transposeA = false, transposeB = false } = {}) {
    requireFloat("matmul", a);
    requireFloat("matmul", b);
    const shape = matmulShape(a.shape, b.shape, transposeA, transposeB);
    const inner = a.shape.at(transposeA ? -2 : -1) as number;
    const [rowAxis, columnAxis] = [shape.length - 2, shape.length - 1];
    return tabulate(shape, "float32", (index) => {
      const left = [...index];
      const right = [...index];
      left[transposeA ? columnAxis : rowAxis] = index[rowAxis] as number;
      right[transposeB ? rowAxis : columnAxis] = index[columnAxis] as number;
      let sum = 0;
      for (let k = 0; k < inner; k++) {
        left[transposeA ? rowAxis : columnAxis] = k;
        right[transposeB ? columnAxis : rowAxis] = k;
        sum += broadcastAt(a, left) * broadcastAt(b, right);
      }
      return sum;
    });
  },
  conv2d(x, weight, bias, { stride = 1, padding = 0 } = {}) {
    requireFloat("conv2d", x);
    requireFloat("conv2d", weight);
    const [top, bottom, left, right] = fourSides(padding);
    const shape = conv2dShape(x.shape, weight.shape, bias?.shape, stride, [top, bottom, left, right]);
    const [, channels, height, width] = x.shape as Image;
    const [, , kernelHeight, kernelWidth] = weight.shape as Image;
    return tabulate(shape, "float32", (index) => {
      const [n, out, i, j] = index as Image;
      let sum = bias ? at(bias, [out]) : 0;
      for (let c = 0; c < channels; c++) {
        for (let di = 0; di < kernelHeight; di++) {
          for (let dj = 0; dj < kernelWidth; dj++) {
            const row = i * stride + di - top;
            const column = j * stride + dj - left;
            const inside = row >= 0 && row < height && column >= 0 && column < width;
            if (inside) sum += at(x, [n, c, row, column]) * at(weight, [out, c, di, dj]);
          }
        }
      }
      return sum;
    });
  },
  avgPool2d: (x, k) =>
    pool("avgPool2d", x, k, (values) => values.reduce((sum, value) => sum + value, 0) / values.length),
  maxPool2d: (x, k) => pool("maxPool2d", x, k, (values) => values.reduce((a, b) => Math.max(a, b))),
  resizeNearest(x, [height, width]) {
    requireFloat("resizeNearest", x);
    const shape = resizeShape(x.shape, [height, width]);
    const [, , fromHeight, fromWidth] = x.shape as Image;
    return tabulate(shape, "float32", (index) => {
      const [n, c, i, j] = index as Image;
      return at(x, [n, c, Math.floor((i * fromHeight) / height), Math.floor((j * fromWidth) / width)]);
    });
  },

  reshape: (x, shape) => ({ ...x, shape: resolveReshape(x.shape, shape) }),
  transpose(x, permutation) {
    const axes = transposeAxes(x.shape, permutation);
    const shape = axes.map((axis) => x.shape[axis] as number);
    return tabulate(shape, x.dtype, (index) =>
      at(
        x,
        x.shape.map((_, axis) => index[axes.indexOf(axis)] as number),
      ),
    );
  },
  broadcastTo(x, shape) {
    if (!sameShape(broadcastShapes("broadcastTo", x.shape, shape), shape)) {
      throw new ShapeError(`broadcastTo: ${show(x.shape)} does not broadcast to ${show(shape)}.`);
    }
    return tabulate(shape, x.dtype, (index) => broadcastAt(x, index));
  },
  concat(xs, axis) {
    const [first] = xs;
    if (!first) throw new InvalidArgumentError("concat: expected at least one tensor, got none.");
    const joined = normalizeAxis("concat", axis, first.shape.length);
    const shape = concatShape(
      xs.map((x) => x.shape),
      joined,
    );
    const other = xs.find((x) => x.dtype !== first.dtype);
    if (other) throw dtypeError("concat", `tensors of one type, got ${first.dtype} and ${other.dtype}`);
    return tabulate(shape, first.dtype, (index) => {
      let position = index[joined] as number;
      for (const x of xs) {
        const size = x.shape[joined] as number;
        if (position < size) return at(x, replaced(index, joined, position));
        position -= size;
      }
      return NaN;
    });
  },
  slice(x, axis, begin, size) {
    const cut = normalizeAxis("slice", axis, x.shape.length);
    return tabulate(sliceShape(x.shape, cut, begin, size), x.dtype, (index) =>
      at(x, replaced(index, cut, (index[cut] as number) + begin)),
    );
  },
  pad(x, widths) {
    return tabulate(padShape(x.shape, widths), x.dtype, (index) => {
      const source = index.map((position, axis) => position - (widths[axis]?.[0] ?? 0));
      const inside = source.every((position, axis) => position >= 0 && position < (x.shape[axis] as number));
      return inside ? at(x, source) : 0;
    });
  },
  gather(x, indices, axis) {
    if (indices.dtype !== "int32") throw dtypeError("gather", `int32 indices, got ${indices.dtype}`);
    const taken = normalizeAxis("gather", axis, x.shape.length);
    const rank = indices.shape.length;
    const shape = gatherShape(x.shape, indices.shape, taken);
    return tabulate(shape, x.dtype, (index) => {
      const row = at(indices, index.slice(taken, taken + rank));
      return at(x, [...index.slice(0, taken), row, ...index.slice(taken + rank)]);
    });
  },
  cast(x, dtype) {
    const convert = { float32: (v: number) => v, int32: Math.trunc, bool: (v: number) => Number(v !== 0) }[dtype];
    return { shape: x.shape, dtype, data: x.data.map(convert) };
  },

  stopGradient: (x) => x,
  valueAndGrad() {
    throw new SdxsError(
      "UNSUPPORTED_OPERATION",
      "valueAndGrad: the reference has no gradients. Use the tfjs or onnx adapter, or finite differences.",
    );
  },
};

type Image = readonly [number, number, number, number];

function elementwise(operation: string, x: ReferenceTensor, f: (value: number) => number): ReferenceTensor {
  requireFloat(operation, x);
  return { ...x, data: x.data.map(f) };
}

function operands(
  operation: string,
  a: Operand<ReferenceTensor>,
  b: Operand<ReferenceTensor>,
): [ReferenceTensor, ReferenceTensor] {
  const left = typeof a === "number" ? referenceOps.scalar(a) : a;
  const right = typeof b === "number" ? referenceOps.scalar(b) : b;
  if (left.dtype !== right.dtype) {
    throw dtypeError(operation, `operands of one type, got ${left.dtype} and ${right.dtype}`);
  }
  return [left, right];
}

function pairwise(
  operation: string,
  a: Operand<ReferenceTensor>,
  b: Operand<ReferenceTensor>,
  f: (left: number, right: number) => number,
  dtype?: DType,
): ReferenceTensor {
  const [left, right] = operands(operation, a, b);
  return tabulate(broadcastShapes(operation, left.shape, right.shape), dtype ?? left.dtype, (index) =>
    f(broadcastAt(left, index), broadcastAt(right, index)),
  );
}

function reduce(
  operation: string,
  x: ReferenceTensor,
  { axes, keepDims = false }: ReduceOptions = {},
  f: (values: readonly number[]) => number,
): ReferenceTensor {
  requireFloat(operation, x);
  return alongAxes(x, normalizeAxes(operation, axes, x.shape.length), keepDims, f);
}

/** Applies `f` to the elements that differ in these axes only, in row-major order. */
function alongAxes(
  x: ReferenceTensor,
  axes: readonly number[],
  keepDims: boolean,
  f: (values: readonly number[]) => number,
): ReferenceTensor {
  const kept = reducedShape(x.shape, axes, true);
  const reduced = x.shape.map((size, axis) => (axes.includes(axis) ? size : 1));
  const result = tabulate(kept, "float32", (index) => {
    const values: number[] = [];
    tabulate(reduced, "float32", (offset) =>
      values.push(
        at(
          x,
          index.map((i, axis) => i + (offset[axis] as number)),
        ),
      ),
    );
    return f(values);
  });
  return { ...result, shape: reducedShape(x.shape, axes, keepDims) };
}

function pool(
  operation: string,
  x: ReferenceTensor,
  k: number,
  f: (values: readonly number[]) => number,
): ReferenceTensor {
  requireFloat(operation, x);
  const [batch, channels, height, width] = pooledShape(operation, x.shape, k) as Image;
  const windows = { ...x, shape: [batch, channels, height, k, width, k] };
  return alongAxes(windows, [3, 5], false, f);
}

/**
 * erf(x) = 2 / sqrt(pi) exp(-x^2) sum over n of 2^n x^(2n + 1) / (1 * 3 * ... * (2n + 1)),
 * Abramowitz and Stegun 7.1.6: all terms have one sign, so nothing cancels.
 */
function errorFunction(x: number): number {
  // 1 - erf(6) is 2e-17, which float64 rounds to 0 beside 1.
  if (Math.abs(x) > 6) return Math.sign(x);
  let term = x;
  let sum = x;
  for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

function replaced(values: Shape, axis: number, value: number): number[] {
  return values.map((old, i) => (i === axis ? value : old));
}

function requireFloat(operation: string, x: ReferenceTensor): void {
  if (x.dtype !== "float32") throw dtypeError(operation, `a float32 tensor, got ${x.dtype}`);
}

function dtypeError(operation: string, expectation: string): SdxsError {
  return new SdxsError("DTYPE_MISMATCH", `${operation}: expected ${expectation}. Convert with cast.`);
}
