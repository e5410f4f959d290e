import type { SdxsError } from "../core/errors.js";
import { gelu, groupNorm, layerNorm, silu } from "../nn/functional.js";
import { HostTensor } from "../core/host-tensor.js";
import type { Ops, TensorMap } from "../core/ops.js";
import type { Program } from "../core/program.js";
import { referenceOps } from "../reference/ops.js";
import { fromHost, toHost } from "../reference/tensor.js";
import { mapTensors } from "../core/parameters.js";
import { compare, passed, type ConformanceCase } from "./case.js";

/**
 * NaN and infinities through every operation: where one is lost, a wrong image or a wrong training step goes unnoticed. Many
 * operations share a case, so that backends that fuse operations do so here too.
 */
export function nonFiniteCases(): ConformanceCase[] {
  return [
    like("arithmetic and steps", { x }, (ops, t) => rows(ops, unary(ops, t.x))),
    like("exponentials, logarithms and roots", { x }, (ops, t) => rows(ops, transcendental(ops, t.x))),
    like("two tensors", { a, b }, (ops, t) => rows(ops, binary(ops, t.a, t.b))),
    like("a tensor and a number", { x }, (ops, t) => rows(ops, withNumbers(ops, t.x))),
    like("conversions and choices", { a, b }, (ops, t) => rows(ops, choices(ops, t.a, t.b))),
    ...[short, long].map((x) =>
      like(`sums and extrema of ${x.shape[1]} elements`, { x }, (ops, t) => {
        const axes = { axes: [1] };
        return rows(ops, [ops.sum(t.x, axes), ops.mean(t.x, axes), ops.max(t.x, axes)]);
      }),
    ),
    ...[short, long].map((x) => like(`softmax over ${x.shape[1]} elements`, { x }, (ops, t) => ops.softmax(t.x, 1))),
    like("norms", { image, four }, (ops, t) =>
      rows(ops, [
        groupNorm(ops, t.image, 2, t.four, t.four, 1e-5),
        layerNorm(ops, ops.reshape(t.image, [-1, 4]), t.four, t.four, 1e-5),
      ]),
    ),
    like("pooling", { image }, (ops, t) => rows(ops, [ops.maxPool2d(t.image, 2), ops.avgPool2d(t.image, 2)])),
    like("a product of few rows", { left, right }, (ops, t) => ops.matmul(t.left, t.right, { transposeB: true })),
    like("a convolution's image and bias, and relu", { plain, kernel, bias }, (ops, t) =>
      ops.relu(ops.conv2d(t.plain, t.kernel, t.bias, { padding: 1 })),
    ),
    like("moves", { image, index }, (ops, t) =>
      rows(ops, [
        ops.transpose(t.image, [0, 2, 3, 1]),
        ops.slice(t.image, 3, 1, 2),
        ops.resizeNearest(t.image, [2, 8]),
        ops.gather(t.image, t.index, 2),
        ops.pad(t.image, [
          [0, 0],
          [0, 0],
          [1, 0],
          [0, 1],
        ]),
      ]),
    ),
    inFloat16(),
  ];
}

const vector = (...values: number[]): HostTensor => HostTensor.from([values.length], values);

const values = [NaN, Infinity, -Infinity, -1.5, 0, 0.75, 2];
const x = vector(...values);
/** All pairs. */
const a = vector(...values.flatMap((value) => values.map(() => value)));
const b = vector(...values.flatMap(() => values));
/** The first, the last and an inner element, alone and with others. */
const special: readonly (readonly [place: number, value: number])[][] = [
  [[0, NaN]],
  [[-1, NaN]],
  [[1, Infinity]],
  [[2, -Infinity]],
  [
    [0, Infinity],
    [-1, -Infinity],
  ],
  [
    [1, NaN],
    [-1, Infinity],
  ],
];
const rowsOf = (length: number): HostTensor => {
  const filled = special.map((places) => {
    const row = Array.from({ length }, (_, i) => (i % 7) / 4 - 0.75);
    for (const [place, value] of places) row[place < 0 ? length + place : place] = value;
    return row;
  });
  const lowest = Array<number>(length).fill(-Infinity);
  return HostTensor.from([special.length + 2, length], [...filled, lowest, filled[0]!.map(() => 1)].flat());
};
const short = rowsOf(5);
/** Long enough for backends to split the sum among threads. */
const long = rowsOf(70);
const notFinite = new Map([
  [0, NaN],
  [5, Infinity],
  [19, -Infinity],
  [30, NaN],
]);
const imageValues = Array.from({ length: 64 }, (_, i) => notFinite.get(i) ?? (i % 11) / 4 - 1);
const image = HostTensor.from([1, 4, 4, 4], imageValues);
const four = vector(0.5, 1, 1.5, 2);
const index = new HostTensor([2], Int32Array.of(3, 0));
const left = HostTensor.from([3, 4], [NaN, 1, 2, 3, Infinity, 1, -1, 0.5, 1, 2, 3, 4]);
const right = HostTensor.from([3, 4], [1, 2, 3, 0.5, 1, -1, 2, 2, 2, 1, 1, Infinity]);
const plain = HostTensor.from([1, 2, 4, 4], [NaN, ...imageValues.slice(32, 63)]);
const kernel = HostTensor.from(
  [3, 2, 3, 3],
  Array.from({ length: 54 }, (_, i) => (i % 5) - 2),
);
const bias = vector(NaN, 0.5, 1);

/** One after the other. */
const rows = <T>(ops: Ops<T>, results: readonly T[]): T =>
  ops.concat(
    results.map((result) => ops.reshape(result, [-1])),
    0,
  );

const unary = <T>(ops: Ops<T>, v: T): T[] => [
  ops.neg(v),
  ops.abs(v),
  ops.sign(v),
  ops.square(v),
  ops.sin(v),
  ops.cos(v),
  ops.relu(v),
  ops.floor(v),
  ops.sqrt(v),
  ...[2, 3, 17].map((exponent) => ops.pow(v, exponent)),
];

const transcendental = <T>(ops: Ops<T>, v: T): T[] => [
  ops.exp(v),
  ops.log(v),
  ops.tanh(v),
  ops.sigmoid(v),
  ops.erf(v),
  silu(ops, v),
  gelu(ops, v),
  // C and JavaScript take a root of -Infinity for Infinity, others for NaN.
  ...[0.5, -0.5, 1.5, -1.5].map((exponent) => ops.pow(ops.maximum(v, -1.5), exponent)),
  ops.pow(v, -1),
];

const binary = <T>(ops: Ops<T>, l: T, r: T): T[] => [
  ops.add(l, r),
  ops.sub(l, r),
  ops.mul(l, r),
  ops.div(l, r),
  ops.maximum(l, r),
  ops.minimum(l, r),
];

const withNumbers = <T>(ops: Ops<T>, v: T): T[] => [
  ops.maximum(v, 0),
  ops.maximum(0.5, v),
  ops.minimum(v, 0),
  ops.minimum(0.5, v),
  ops.minimum(ops.maximum(v, -1), 1),
  ops.mul(v, 0),
  ops.sub(v, v),
  ops.div(v, v),
];

const choices = <T>(ops: Ops<T>, l: T, r: T): T[] => [
  ...[ops.equal(l, r), ops.greater(l, r), ops.less(l, r), ops.greater(l, 0), ops.less(0.5, l), ops.equal(l, l)].map(
    (condition) => ops.cast(condition, "float32"),
  ),
  ops.cast(ops.cast(l, "bool"), "float32"),
  ops.where(ops.greater(l, 0), l, r),
  ops.where(ops.less(l, r), 1, l),
];

/** A case that expects the reference's results: JavaScript's numbers keep to IEEE 754. */
function like<K extends string>(
  what: string,
  tensors: Readonly<Record<K, HostTensor>>,
  compute: <T>(ops: Ops<T>, tensors: Readonly<Record<K, T>>) => T,
): ConformanceCase {
  return {
    name: `NaN and infinities pass ${what}`,
    async check(adapter) {
      const program: Program = (ops, _params, inputs) => ({ result: compute(ops, inputs as never) });
      const reference = compute(referenceOps, mapTensors(tensors as TensorMap<HostTensor>, fromHost) as never);
      return compare(await adapter.evaluate(program, {}, tensors), { result: toHost(reference) }, 1e-5);
    },
  };
}

/** In float16, where the backend computes in it: in registers and in memory. */
function inFloat16(): ConformanceCase {
  const compute = <T>(ops: Ops<T>, given: T, weight: T): T => {
    const product = ops.matmul(given, weight);
    const joined = [ops.relu(product), ops.maximum(product, 0), ops.abs(product), ops.neg(product)];
    return ops.matmul(ops.add(ops.concat(joined, 0), 1), weight);
  };
  const weight = HostTensor.from([3, 3], [1, 0.5, 0.25, 0.5, 1, 0.5, 0.25, 0.5, 1]);
  const given = HostTensor.from([3, 3], [NaN, 1, 2, Infinity, 1, 2, 0.5, 1, 2]);
  const expected = toHost(compute(referenceOps, fromHost(given), fromHost(weight)));
  return {
    name: "NaN and infinities pass products, activations and memory in float16",
    async check({ backend }) {
      if (backend === undefined) return passed;
      const program: Program<"given"> = (ops, { weight }, { given }) => ({ result: compute(ops, given, weight!) });
      const spec = { inputs: { given: { shape: given.shape } }, frozen: { weight }, precision: "float16" } as const;
      try {
        const compiled = await backend.compile(program, spec);
        const { result } = await compiled.run({}, { given });
        const actual = await backend.download(result);
        backend.dispose(result);
        await compiled.dispose();
        return compare({ result: actual }, { result: expected }, 5e-3);
      } catch (error) {
        if ((error as Partial<SdxsError>).code === "UNSUPPORTED_OPERATION") return passed;
        throw error;
      }
    },
  };
}
