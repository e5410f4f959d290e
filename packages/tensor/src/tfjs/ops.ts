import type { DataType, Rank, Tensor1D, Tensor2D, Tensor3D, Tensor4D, TensorContainer } from "@tensorflow/tfjs";
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
import { sizeOf, type DType, type Shape } from "../core/host-tensor.js";
import type { Operand, Ops, ReduceOptions, TensorMap } from "../core/ops.js";
import { mapTensors } from "../core/parameters.js";
import { cosine, sine, type SineOps } from "../core/sine.js";
import { convolve } from "./convolution.js";
import { detached, runPair, withOutputGradient, type PairOperation, type Tensor, type TensorFlow } from "./lazy.js";
import { batchedProduct } from "./product.js";
import { sum } from "./sum.js";

/**
 * The operations over tfjs tensors: NCHW in memory as in meaning, eager, differentiable by `tf.grad` and its
 * relatives as often as wanted, on whichever tfjs backend is active.
 *
 * Results belong to the caller, as with tfjs itself: wrap calls in `tf.tidy`.
 *
 * @example
 * const ops = tfjsOps(tf);
 * const gradient = tf.grad((x) => tf.sum(silu(ops, x)))(tf.tensor1d([1, 2]));
 */
export function tfjsOps(tf: TensorFlow): Ops<Tensor> {
  const float = (operation: string, x: Tensor): Tensor => {
    if (x.dtype !== "float32") throw dtypeError(operation, `a float32 tensor, got ${x.dtype}`);
    return x;
  };
  const unary =
    (operation: string, compute: (x: Tensor) => Tensor) =>
    (x: Tensor): Tensor =>
      compute(float(operation, x));
  const shapeOf = (x: Operand<Tensor>): Shape => (typeof x === "number" ? [] : x.shape);
  const dtypeOf = (x: Operand<Tensor>): DataType => (typeof x === "number" ? "float32" : x.dtype);
  const binary =
    (operation: string, compute: (a: Operand<Tensor>, b: Operand<Tensor>, shape: Shape) => Tensor) =>
    (a: Operand<Tensor>, b: Operand<Tensor>): Tensor => {
      if (dtypeOf(a) !== dtypeOf(b)) {
        throw dtypeError(operation, `operands of one type, got ${dtypeOf(a)} and ${dtypeOf(b)}`);
      }
      return compute(a, b, broadcastShapes(operation, shapeOf(a), shapeOf(b)));
    };
  const reduction =
    (operation: string, compute: (x: Tensor, axes: number[], keepDims: boolean) => Tensor) =>
    (x: Tensor, options: ReduceOptions = {}): Tensor => {
      const axes = normalizeAxes(operation, options.axes, float(operation, x).shape.length);
      return axes.length === 0 ? tf.clone(x) : compute(x, [...axes], options.keepDims ?? false);
    };

  /** Broadcast by an addition, whose gradient has no limit on the number of axes; that of tf.broadcastTo has. */
  const broadcast = (x: Operand<Tensor>, shape: Shape): Tensor => {
    if (typeof x === "number") return tf.fill([...shape], x);
    if (sameShape(x.shape, shape)) return x;
    if (x.dtype === "bool") return tf.logicalOr(x, tf.zeros([...shape], "bool"));
    return tf.add(x, tf.zeros([...shape], x.dtype === "int32" ? "int32" : "float32"));
  };

  /** [before, axis, after] */
  const aroundAxis = (x: Tensor, axis: number): Tensor3D =>
    tf.reshape(x, [sizeOf(x.shape.slice(0, axis)), x.shape[axis] ?? 1, sizeOf(x.shape.slice(axis + 1))]);

  /** [N * C, H, W, 1], which tfjs pools and resizes without a transposition. */
  const asPlanes = (x: Tensor): Tensor4D => {
    const [batch = 0, channels = 0, height = 0, width = 0] = x.shape;
    return tf.reshape(x, [batch * channels, height, width, 1]);
  };

  const arithmetic: SineOps<Tensor> = {
    add: (a, b) => tf.add(a, b),
    sub: (a, b) => tf.sub(a, b),
    mul: (a, b) => tf.mul(a, b),
    floor: (x) => tf.floor(x),
  };

  const ops: Ops<Tensor> = {
    shape: givenShape,
    dtype: (x) => x.dtype as DType,

    constant(data, shape) {
      if (sizeOf(shape) !== data.length) {
        throw new ShapeError(
          `constant: shape ${show(shape)} needs ${sizeOf(shape)} elements, the data has ${data.length}.`,
        );
      }
      const dtype = data instanceof Float32Array ? "float32" : data instanceof Int32Array ? "int32" : "bool";
      return tf.tensor(data, [...shape], dtype);
    },
    scalar: (value) => tf.scalar(value, "float32"),

    neg: unary("neg", (x) => tf.neg(x)),
    abs: unary("abs", (x) =>
      tf.mul(
        x,
        detached(tf, () => signOf(tf, x)),
      ),
    ),
    sign: unary("sign", (x) => detached(tf, () => signOf(tf, x))),
    exp: unary("exp", (x) =>
      withOutputGradient(
        tf,
        x,
        (input) => tf.exp(input),
        (dy, y) => tf.mul(dy, y),
      ),
    ),
    log: unary("log", (x) => tf.log(x)),
    sqrt: unary("sqrt", (x) => tf.sqrt(x)),
    square: unary("square", (x) => tf.square(x)),
    sin: unary("sin", (x) =>
      onGpu(tf)
        ? withOutputGradient(
            tf,
            x,
            (input) => sine(arithmetic, input),
            (dy, _y, input) => tf.mul(dy, ops.cos(input)),
          )
        : tf.sin(x),
    ),
    cos: unary("cos", (x) =>
      onGpu(tf)
        ? withOutputGradient(
            tf,
            x,
            (input) => cosine(arithmetic, input),
            (dy, _y, input) => tf.mul(dy, tf.neg(ops.sin(input))),
          )
        : tf.cos(x),
    ),
    tanh: unary("tanh", (x) =>
      withOutputGradient(
        tf,
        x,
        (input) => tf.tanh(input),
        (dy, y) => tf.mul(dy, tf.sub(1, tf.square(y))),
      ),
    ),
    sigmoid: unary("sigmoid", (x) =>
      withOutputGradient(
        tf,
        x,
        (input) => tf.sigmoid(input),
        (dy, y) => tf.mul(dy, tf.mul(y, tf.sub(1, y))),
      ),
    ),
    relu: unary("relu", (x) => tf.relu(x)),
    erf: unary("erf", (x) => tf.erf(x)),
    floor: unary("floor", (x) => detached(tf, () => tf.floor(x))),

    add: binary("add", (a, b) => tf.add(a, b)),
    sub: binary("sub", (a, b) => tf.sub(a, b)),
    mul: binary("mul", (a, b) => tf.mul(a, b)),
    div: binary("div", (a, b) => tf.div(a, b)),
    pow: (x, exponent) => tf.pow(float("pow", x), tf.scalar(exponent, "float32")),
    maximum: binary("maximum", (a, b, shape) => runPair(tf, maximum, broadcast(a, shape), broadcast(b, shape), {})),
    minimum: binary("minimum", (a, b, shape) => runPair(tf, minimum, broadcast(a, shape), broadcast(b, shape), {})),

    equal: binary("equal", (a, b) => detached(tf, () => tf.equal(a, b))),
    greater: binary("greater", (a, b) => detached(tf, () => tf.greater(a, b))),
    less: binary("less", (a, b) => detached(tf, () => tf.less(a, b))),
    where(condition, a, b) {
      if (condition.dtype !== "bool") throw dtypeError("where", `a bool condition, got ${condition.dtype}`);
      return binary("where", (left, right, pair) => {
        const shape = broadcastShapes("where", condition.shape, pair);
        const choice = detached(tf, () => tf.reshape(broadcast(condition, shape), [...shape]));
        return tf.where(choice, broadcast(left, shape), broadcast(right, shape));
      })(a, b);
    },

    sum: reduction("sum", (x, axes, keepDims) => sum(tf, x, axes, keepDims)),
    mean: reduction("mean", (x, axes, keepDims) => {
      const total = sum(tf, x, axes, keepDims);
      return tf.mul(total, sizeOf(total.shape) / sizeOf(x.shape));
    }),
    max: reduction("max", (x, axes, keepDims) => {
      const kept = [...reducedShape(x.shape, axes, true)];
      const largest = withOutputGradient(
        tf,
        x,
        (input) => tf.max(input, axes, true),
        (dy, y, input) => {
          const share = detached(tf, () => {
            const attained = tf.cast(tf.equal(input, y), "float32");
            return tf.div(attained, tf.sum(attained, axes, true));
          });
          return tf.mul(share, tf.reshape(dy, kept));
        },
      );
      return tf.reshape(largest, [...reducedShape(x.shape, axes, keepDims)]);
    }),
    argMax(x, axis) {
      const positive = normalizeAxis("argMax", axis, x.shape.length);
      return detached(tf, () => tf.argMax(x, positive));
    },
    softmax(x, axis) {
      const rank = float("softmax", x).shape.length;
      const positive = normalizeAxis("softmax", axis, rank);
      if (positive === rank - 1) return softmaxOverLast(tf, x);
      const exchanged = Array.from({ length: rank }, (_, i) =>
        i === positive ? rank - 1 : i === rank - 1 ? positive : i,
      );
      return tf.transpose(softmaxOverLast(tf, tf.transpose(x, exchanged)), exchanged);
    },

    matmul(a, b, { transposeA = false, transposeB = false } = {}) {
      float("matmul", a);
      float("matmul", b);
      const shape = matmulShape(a.shape, b.shape, transposeA, transposeB);
      const [batchA, batchB, batch] = [a.shape.slice(0, -2), b.shape.slice(0, -2), shape.slice(0, -2)];
      const matrices = (x: Tensor, count: number): Tensor3D =>
        tf.reshape(x, [count, x.shape.at(-2) ?? 1, x.shape.at(-1) ?? 1]);
      if (sizeOf(batchB) === 1 && !transposeA) {
        // One right operand for all: the batches of the left one are further rows.
        const rows = tf.reshape<Rank.R3>(a, [1, sizeOf(a.shape) / (a.shape.at(-1) || 1), a.shape.at(-1) ?? 1]);
        return tf.reshape(batchedProduct(tf, rows, matrices(b, 1), false, transposeB), [...shape]);
      }
      const count = sizeOf(batch);
      const spread = (x: Tensor, own: Shape): Tensor3D =>
        matrices(sizeOf(own) === count ? x : broadcast(x, [...batch, ...x.shape.slice(-2)]), count);
      return tf.reshape(batchedProduct(tf, spread(a, batchA), spread(b, batchB), transposeA, transposeB), [...shape]);
    },
    conv2d(x, weight, bias, { stride = 1, padding = 0 } = {}) {
      const sides = fourSides(padding);
      conv2dShape(x.shape, weight.shape, bias?.shape, stride, sides);
      const y = convolve(tf, float("conv2d", x), float("conv2d", weight), stride, sides);
      return bias === undefined ? y : tf.add(y, tf.reshape(bias, [1, -1, 1, 1]));
    },
    avgPool2d(x, k) {
      const shape = pooledShape("avgPool2d", float("avgPool2d", x).shape, k);
      return tf.customGrad((input) => ({
        value: tf.reshape(pooled(tf, asPlanes(input as Tensor), k, tf.avgPool), [...shape]),
        gradFunc: (dy) => tf.div(ops.resizeNearest(dy, imageSize(x)), k * k),
      }))(x);
    },
    maxPool2d(x, k) {
      const shape = pooledShape("maxPool2d", float("maxPool2d", x).shape, k);
      return withOutputGradient(
        tf,
        x,
        (input) => tf.reshape(pooled(tf, asPlanes(input), k, tf.maxPool), [...shape]),
        (dy, y, input) => {
          const share = detached(tf, () => {
            const attained = tf.cast(tf.equal(input, ops.resizeNearest(y, imageSize(x))), "float32");
            const count = tf.mul(ops.avgPool2d(attained, k), k * k);
            return tf.div(attained, ops.resizeNearest(count, imageSize(x)));
          });
          return tf.mul(share, ops.resizeNearest(dy, imageSize(x)));
        },
      );
    },
    resizeNearest(x, [height, width]) {
      const shape = resizeShape(float("resizeNearest", x).shape, [height, width]);
      const [fromHeight, fromWidth] = imageSize(x);
      return tf.customGrad((input) => ({
        value: tf.reshape(nearest(tf, asPlanes(input as Tensor), height, width), [...shape]),
        gradFunc: (dy) => {
          const k = height / fromHeight;
          if (Number.isInteger(k) && width / fromWidth === k) return tf.mul(ops.avgPool2d(dy, k), k * k);
          const columns = ops.matmul(dy, selection(tf, fromWidth, width)); // [N, C, height, fromWidth]
          const turned = tf.transpose(columns, [0, 1, 3, 2]);
          return tf.transpose(ops.matmul(turned, selection(tf, fromHeight, height)), [0, 1, 3, 2]);
        },
      }))(x);
    },

    reshape: (x, shape) => tf.reshape(x, [...resolveReshape(x.shape, shape)]),
    transpose(x, permutation) {
      const axes = transposeAxes(x.shape, permutation);
      return tf.transpose(x, [...axes]);
    },
    broadcastTo(x, shape) {
      if (!sameShape(broadcastShapes("broadcastTo", x.shape, shape), shape)) {
        throw new ShapeError(`broadcastTo: ${show(x.shape)} does not broadcast to ${show(shape)}.`);
      }
      return sameShape(x.shape, shape) ? tf.clone(x) : broadcast(x, shape);
    },
    concat(xs, axis) {
      const [first] = xs;
      if (!first) throw new InvalidArgumentError("concat: expected at least one tensor, got none.");
      const at = normalizeAxis("concat", axis, first.shape.length);
      const shape = concatShape(
        xs.map((x) => x.shape),
        at,
      );
      const other = xs.find((x) => x.dtype !== first.dtype);
      if (other) throw dtypeError("concat", `tensors of one type, got ${first.dtype} and ${other.dtype}`);
      const before = sizeOf(first.shape.slice(0, at));
      const rows = xs.map((x): Tensor2D => tf.reshape(x, [before, sizeOf(x.shape.slice(at))]));
      return tf.reshape(tf.concat(rows, 1), [...shape]);
    },
    slice(x, axis, begin, size) {
      const at = normalizeAxis("slice", axis, x.shape.length);
      const shape = sliceShape(x.shape, at, begin, size);
      return tf.reshape(tf.slice(aroundAxis(x, at), [0, begin, 0], [-1, size, -1]), [...shape]);
    },
    pad(x, widths) {
      padShape(x.shape, widths);
      return widths.reduce((result, [before, after], axis) => {
        if (before === 0 && after === 0) return result;
        const padded = tf.pad(aroundAxis(result, axis), [
          [0, 0],
          [before, after],
          [0, 0],
        ]);
        return tf.reshape(
          padded,
          result.shape.map((size, i) => (i === axis ? size + before + after : size)),
        );
      }, tf.clone(x));
    },
    gather(x, indices, axis) {
      if (indices.dtype !== "int32") throw dtypeError("gather", `int32 indices, got ${indices.dtype}`);
      const at = normalizeAxis("gather", axis, x.shape.length);
      const shape = [...gatherShape(x.shape, indices.shape, at)];
      const flat: Tensor1D = tf.reshape(indices, [-1]);
      const source = aroundAxis(x, at);
      if (x.dtype !== "float32") return detached(tf, () => tf.reshape(tf.gather(source, flat, 1), shape));
      return tf.reshape(gatherRows(tf, source, flat), shape);
    },
    cast(x, dtype) {
      if (x.dtype === dtype) return tf.clone(x);
      // A conversion to bool keeps what is not zero; some kernels of tf.cast would truncate first.
      return detached(tf, () => (dtype === "bool" ? tf.notEqual(x, tf.zerosLike(x)) : tf.cast(x, dtype)));
    },

    stopGradient: (x) => detached(tf, () => tf.reshape<Rank>(x, x.shape)),

    valueAndGrad(f, params) {
      return tf.tidy(() => {
        // Copies, so that other values computed from the same parameters count as constants.
        const inner = mapTensors(params, (param) => tf.clone(param));
        let kept: TensorMap<Tensor> = {};
        const evaluate = (): Tensor => {
          const { loss, aux } = f(inner);
          if (sizeOf(loss.shape) !== 1) {
            throw new ShapeError(
              `valueAndGrad: the loss must be a scalar, got shape ${show(loss.shape)}. Take its mean or sum.`,
            );
          }
          kept = mapTensors(aux, (tensor) => tf.keep(tf.clone(tensor)));
          return tf.clone(loss);
        };
        const names = Object.keys(inner);
        // tf.grads refuses parameters that the loss does not depend on.
        const { value, grads } =
          names.length === 0
            ? { value: evaluate(), grads: [] }
            : tf.engine().gradients(evaluate, Object.values(inner), undefined, true);
        const aux = mapTensors(kept, (tensor) => tf.clone(tensor));
        tf.dispose(kept);
        const result = {
          loss: value,
          aux,
          // The types promise a gradient for each parameter; there is none where the loss does not depend on it.
          grads: Object.fromEntries(names.map((name, i) => [name, grads[i] ?? tf.zerosLike(inner[name] as Tensor)])),
        };
        return result satisfies TensorContainer;
      });
    },
  };
  return ops;
}

/** Whether the active backend computes sine and cosine as a GPU does: see sine.ts. */
function onGpu(tf: TensorFlow): boolean {
  return ["webgpu", "webgl"].includes(tf.getBackend());
}

/** `value`, or NaN where `isNaN` holds: tfjs's kernel loses it. */
function orNaN<T extends Tensor>(tf: TensorFlow, isNaN: Tensor, value: T): T {
  return tf.where(isNaN, tf.fill(value.shape, NaN), value) as T;
}

/** tf.sign, which makes 0 of NaN. */
const signOf = (tf: TensorFlow, x: Tensor): Tensor => orNaN(tf, tf.isNaN(x), tf.sign(x));

/** Pooling of [planes, height, width, 1], in which tfjs's kernels lose NaN. */
function pooled(tf: TensorFlow, x: Tensor4D, k: number, pool: TensorFlow["maxPool"]): Tensor4D {
  const share = tf.avgPool(tf.cast(tf.isNaN(x), "float32"), k, k, 0);
  return orNaN(tf, tf.greater(share, 0), pool(x, k, k, 0));
}

/** tf.maximum or tf.minimum; on WebAssembly they make a number of it and NaN. */
function extremum(tf: TensorFlow, name: "maximum" | "minimum", a: Tensor, b: Tensor): Tensor {
  const result = tf[name](a, b);
  if (tf.getBackend() !== "wasm" || a.dtype !== "float32") return result;
  return orNaN(tf, tf.logicalOr(tf.isNaN(a), tf.isNaN(b)), result);
}

/** As tf.maximum, whose own gradient does not sum over broadcast axes and cannot be differentiated. */
const maximum: PairOperation<Record<string, never>> = {
  name: "SdxsMaximum",
  forward: (tf, a, b) => extremum(tf, "maximum", a, b),
  gradientA: (tf, dy, a, b) =>
    tf.mul(
      dy,
      detached(tf, () => tf.cast(tf.greaterEqual(a, b), "float32")),
    ),
  gradientB: (tf, dy, a, b) =>
    tf.mul(
      dy,
      detached(tf, () => tf.cast(tf.less(a, b), "float32")),
    ),
};

const minimum: PairOperation<Record<string, never>> = {
  name: "SdxsMinimum",
  forward: (tf, a, b) => extremum(tf, "minimum", a, b),
  gradientA: (tf, dy, a, b) =>
    tf.mul(
      dy,
      detached(tf, () => tf.cast(tf.lessEqual(a, b), "float32")),
    ),
  gradientB: (tf, dy, a, b) =>
    tf.mul(
      dy,
      detached(tf, () => tf.cast(tf.greater(a, b), "float32")),
    ),
};

function softmaxOverLast(tf: TensorFlow, x: Tensor): Tensor {
  return withOutputGradient(
    tf,
    x,
    (input) => tf.softmax(input, -1),
    (dy, y) => {
      const weighted = tf.mul(dy, y);
      return tf.sub(weighted, tf.mul(y, tf.sum(weighted, -1, true)));
    },
  );
}

/** Rows [before, indices, after] of x [before, rows, after]. Its gradient adds up the rows of repeated indices. */
function gatherRows(tf: TensorFlow, x: Tensor3D, indices: Tensor1D): Tensor {
  const [, rows] = x.shape;
  return tf.customGrad((...given) => {
    const [input, save] = given as [Tensor, (tensors: Tensor[]) => void];
    save([indices]);
    return {
      value: tf.gather(input, indices, 1),
      gradFunc: (dy, [saved]) => scatterRows(tf, dy as Tensor3D, saved as Tensor1D, rows),
    };
  })(x);
}

/** The transpose of `gatherRows`: sums of the slices of x [before, indices, after] by index, [before, rows, after]. */
function scatterRows(tf: TensorFlow, x: Tensor3D, indices: Tensor1D, rows: number): Tensor {
  return tf.customGrad((...given) => {
    const [input, save] = given as [Tensor3D, (tensors: Tensor[]) => void];
    const [before, count, after] = input.shape;
    save([indices]);
    const updates = tf.reshape(tf.transpose(input, [1, 0, 2]), [count, before * after]);
    const sums = tf.scatterND(tf.reshape(indices, [count, 1]), updates, [rows, before * after]);
    return {
      value: tf.transpose(tf.reshape(sums, [rows, before, after]), [1, 0, 2]),
      gradFunc: (dy, [saved]) => gatherRows(tf, dy as Tensor3D, saved as Tensor1D),
    };
  })(x);
}

/** Nearest-neighbour resizing of [planes, H, W, 1]. */
function nearest(tf: TensorFlow, x: Tensor4D, height: number, width: number): Tensor4D {
  const [, fromHeight, fromWidth] = x.shape;
  if (float32IndicesAgree(fromHeight, height) && float32IndicesAgree(fromWidth, width)) {
    return tf.image.resizeNearestNeighbor(x, [height, width]);
  }
  const indices = (from: number, to: number): Tensor1D =>
    tf.tensor1d(
      Int32Array.from({ length: to }, (_, i) => Math.floor((i * from) / to)),
      "int32",
    );
  return tf.gather(tf.gather(x, indices(fromHeight, height), 1), indices(fromWidth, width), 2);
}

/** Whether tfjs, which computes i * (from / to) in float32, comes to the same indices as whole numbers do. */
function float32IndicesAgree(from: number, to: number): boolean {
  const scale = Math.fround(from / to);
  return Array.from({ length: to }, (_, i) => i).every(
    (i) => Math.floor(Math.fround(i * scale)) === Math.floor((i * from) / to),
  );
}

/** The 0-1 matrix [to, from] of nearest-neighbour resizing. */
function selection(tf: TensorFlow, from: number, to: number): Tensor {
  const matrix = new Float32Array(to * from);
  for (let i = 0; i < to; i++) matrix[i * from + Math.floor((i * from) / to)] = 1;
  return tf.tensor2d(matrix, [to, from]);
}

function imageSize(x: Tensor): readonly [height: number, width: number] {
  return [x.shape[2] ?? 0, x.shape[3] ?? 0];
}

function dtypeError(operation: string, expectation: string): SdxsError {
  return new SdxsError("DTYPE_MISMATCH", `${operation}: expected ${expectation}. Convert with cast.`);
}
