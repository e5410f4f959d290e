import { lax, nn, numpy as np, type DType } from "@jax-js/jax";
import { HostTensor, forwardBackend, type Backend, type DType as SdxsDType, type ForwardOps } from "@sdxs/tensor";

/** jax-js moves what is passed to its functions; `ref` keeps it for its owner. */
const kept = (x: np.Array): np.Array => x.ref;
const unary = (f: (x: np.Array) => np.Array) => (x: np.Array) => f(kept(x));
const binary = (f: (a: np.Array, b: np.Array) => np.Array) => (a: np.Array, b: np.Array) => f(kept(a), kept(b));

const dtypes: Record<SdxsDType, DType> = { float32: np.float32, int32: np.int32, bool: np.bool };

/** An angle less whole turns, in two parts so that no digits are lost: jax-js's sine is exact near 0 alone. */
function withinTurn(x: np.Array): np.Array {
  const turns = np.floor(
    kept(x)
      .mul(1 / (2 * Math.PI))
      .add(0.5),
  );
  return x.sub(kept(turns).mul(6.28125)).sub(turns.mul(2 * Math.PI - 6.28125));
}

/** [batch, channels, height, k, width, k]: the windows of k x k pixels. */
function windows(x: np.Array, k: number): np.Array {
  const [batch = 1, channels = 1, height = 1, width = 1] = x.shape;
  return kept(x).reshape([batch, channels, height / k, k, width / k, k]);
}

const operations: ForwardOps<np.Array> = {
  shape: (x) => x.shape,
  dtype: (x) => x.dtype as SdxsDType,

  neg: unary(np.negative),
  abs: unary(np.abs),
  sign: unary(np.sign),
  exp: unary(np.exp),
  log: unary(np.log),
  sqrt: unary(np.sqrt),
  sin: unary((x) => np.sin(withinTurn(x))),
  cos: unary((x) => np.cos(withinTurn(x))),
  tanh: unary(np.tanh),
  sigmoid: unary(nn.sigmoid),
  relu: unary(nn.relu),
  erf: unary(lax.erf),
  floor: unary(np.floor),
  pow: (x, exponent) => np.power(kept(x), exponent),

  add: binary(np.add),
  sub: binary(np.subtract),
  mul: binary(np.multiply),
  div: binary(np.trueDivide),
  maximum: binary(np.maximum),
  minimum: binary(np.minimum),
  equal: binary(np.equal),
  greater: binary(np.greater),
  less: binary(np.less),
  where: (condition, a, b) => np.where(kept(condition), kept(a), kept(b)),

  sum: (x, { axes, keepDims }) => np.sum(kept(x), [...axes], { keepdims: keepDims }),
  mean: (x, { axes, keepDims }) => np.mean(kept(x), [...axes], { keepdims: keepDims }),
  max: (x, { axes, keepDims }) => np.max(kept(x), [...axes], { keepdims: keepDims }),
  argMax: (x, axis) => np.argmax(kept(x), axis),
  softmax: (x, axis) => nn.softmax(kept(x), axis),

  matmul(a, b, { transposeA, transposeB }) {
    // jax-js 0.1.25 confuses the leading axes where it broadcasts them itself.
    const batch = np.broadcastShapes(a.shape.slice(0, -2), b.shape.slice(0, -2));
    const operand = (x: np.Array, transpose: boolean) => {
      const whole = np.broadcastTo(kept(x), [...batch, ...x.shape.slice(-2)]);
      return transpose ? np.matrixTranspose(whole) : whole;
    };
    return np.matmul(operand(a, transposeA), operand(b, transposeB));
  },
  conv2d(x, weight, bias, { stride, padding: [top, bottom, left, right] }) {
    const y = lax.conv(
      kept(x),
      kept(weight),
      [stride, stride],
      [
        [top, bottom],
        [left, right],
      ],
    );
    return bias === undefined ? y : np.add(y, kept(bias).reshape([1, -1, 1, 1]));
  },
  avgPool2d: (x, k) => np.mean(windows(x, k), [3, 5]),
  maxPool2d: (x, k) => np.max(windows(x, k), [3, 5]),
  resizeNearest: (x, size) =>
    size.reduce((image, to, i) => {
      const from = image.shape[2 + i] ?? 1;
      const rows = Int32Array.from({ length: to }, (_, index) => Math.floor((index * from) / to));
      return np.take(image, np.array(rows), 2 + i);
    }, kept(x)),

  reshape: (x, shape) => kept(x).reshape([...shape]),
  transpose: (x, permutation) => np.transpose(kept(x), [...permutation]),
  broadcastTo: (x, shape) => np.broadcastTo(kept(x), [...shape]),
  concat: (xs, axis) => np.concatenate(xs.map(kept), axis),
  slice: (x, axis, begin, size) =>
    kept(x).slice(...x.shape.map((_, i): [] | [number, number] => (i === axis ? [begin, begin + size] : []))),
  pad: (x, widths) =>
    np.pad(
      kept(x),
      widths.map(([before, after]): [number, number] => [before, after]),
    ),
  gather: (x, indices, axis) => np.take(kept(x), kept(indices), axis),
  cast: (x, dtype) => (dtype === "bool" ? np.notEqual(kept(x), 0) : kept(x).astype(dtypes[dtype])),
};

/** jax-js as a backend: every program of the packages, training included, on its arrays. */
export function jaxBackend(): Backend<np.Array> {
  return forwardBackend<np.Array>({
    name: "jax-js",
    ops: operations,
    isTensor: (value): value is np.Array => value instanceof np.Array,
    upload({ data, dtype, shape }) {
      const array = np.array(data instanceof Uint8Array ? Int32Array.from(data) : data.slice(), { shape: [...shape] });
      return dtype === "bool" ? np.notEqual(array, 0) : array;
    },
    async download(array) {
      const data = (await kept(array).data()) as Float32Array | Int32Array | Uint32Array;
      if (array.dtype === np.bool) return new HostTensor(array.shape, Uint8Array.from(data));
      return new HostTensor(array.shape, array.dtype === np.int32 ? Int32Array.from(data) : Float32Array.from(data));
    },
    dispose: (array) => array.dispose(),
  });
}
