import { attention, gelu, groupNorm, layerNorm, linear, quickGelu, silu } from "../nn/functional.js";
import { HostTensor, type Shape } from "../core/host-tensor.js";
import type { Conv2dOptions, ReduceOptions } from "../core/ops.js";
import type { ConformanceCase } from "./case.js";
import { booleans, positive, spread, wholeNumbers } from "./data.js";
import { operation, type OperationOptions } from "./operation.js";

const show = (shape: Shape): string => `[${shape.join(", ")}]`;

/** Every operation of `Ops` and every composite: values, gradients, second derivatives. */
export function operationCases(): ConformanceCase[] {
  return [
    ...elementwiseCases(),
    ...pairwiseCases(),
    ...choiceCases(),
    ...reductionCases(),
    ...matmulCases(),
    ...imageCases(),
    ...shapeCases(),
    ...compositeCases(),
  ];
}

type UnaryName =
  "neg" | "abs" | "sign" | "exp" | "log" | "sqrt" | "square" | "sin" | "cos" | "tanh" | "sigmoid" | "relu" | "erf";

function elementwiseCases(): ConformanceCase[] {
  const unary = (
    name: UnaryName,
    data: typeof spread = spread,
    options: OperationOptions<"x"> = {},
  ): ConformanceCase[] =>
    [[], [7], [2, 1, 3, 2, 1, 2]].flatMap((shape) =>
      operation(`${name} of ${show(shape)}`, { x: data(shape, name) }, (ops, { x }) => ops[name](x), options),
    );
  return [
    ...unary("neg"),
    ...unary("abs"),
    ...unary("sign"),
    ...unary("exp"),
    ...unary("log", positive),
    ...unary("sqrt", positive),
    ...unary("square"),
    ...unary("sin"),
    ...unary("cos"),
    // As of a U-Net's timesteps.
    ...(["sin", "cos"] as const).flatMap((name) =>
      operation(`${name} of angles up to 1000`, { x: scaledBy(500, spread([40], name)) }, (ops, { x }) => ops[name](x)),
    ),
    ...unary("tanh"),
    ...unary("sigmoid"),
    ...unary("relu"),
    ...unary("erf"),
    ...operation("floor", { x: HostTensor.from([6], [-1.5, -0.3, 0.2, 0.9, 1.1, 2.7]) }, (ops, { x }) => ops.floor(x)),
    ...[2, 3, 1].flatMap((exponent) =>
      operation(`pow ${exponent}`, { x: spread([5], "pow") }, (ops, { x }) => ops.pow(x, exponent)),
    ),
    ...[0.5, -1, -1.5].flatMap((exponent) =>
      operation(`pow ${exponent}`, { x: positive([5], "pow") }, (ops, { x }) => ops.pow(x, exponent)),
    ),
  ];
}

const broadcasts: readonly (readonly [Shape, Shape])[] = [
  [
    [2, 3],
    [2, 3],
  ],
  [[2, 3, 4], [4]],
  [[3], []],
  [
    [2, 1, 4],
    [3, 1],
  ],
  [
    [2, 4, 3, 3],
    [1, 4, 1, 1],
  ],
  [
    [2, 1, 2, 1, 2, 1],
    [1, 2, 1, 2, 1, 2],
  ],
];

function pairwiseCases(): ConformanceCase[] {
  const names = ["add", "sub", "mul", "div", "maximum", "minimum"] as const;
  return names.flatMap((name) => [
    ...broadcasts.flatMap(([left, right]) =>
      operation(
        `${name} of ${show(left)} and ${show(right)}`,
        // Positive divisors; larger and smaller ones for maximum and minimum.
        { a: spread(left, "left"), b: name === "div" ? positive(right, "right") : between(right, "right") },
        (ops, { a, b }) => ops[name](a, b),
      ),
    ),
    ...operation(`${name} of a tensor and a number`, { a: spread([2, 3], name) }, (ops, { a }) => ops[name](a, 0.25)),
    ...operation(`${name} of a number and a tensor`, { b: positive([2, 3], name) }, (ops, { b }) => ops[name](1.25, b)),
    ...operation(`${name} of a tensor and itself`, { a: positive([4], name) }, (ops, { a }) => ops[name](a, a), {
      // Where both are equal, the gradient is a convention that differences do not see.
      gradient: name !== "maximum" && name !== "minimum",
    }),
  ]);
}

function choiceCases(): ConformanceCase[] {
  const comparisons = (["equal", "greater", "less"] as const).flatMap((name) => [
    ...broadcasts.flatMap(([left, right]) =>
      operation(
        `${name} of ${show(left)} and ${show(right)}`,
        // Halves of small whole numbers, so that some are equal.
        { a: halves(left, "left"), b: halves(right, "right") },
        (ops, { a, b }) => ops[name](a, b),
        { gradient: false },
      ),
    ),
    ...operation(`${name} of a tensor and a number`, { a: halves([6], name) }, (ops, { a }) => ops[name](a, 0.5), {
      gradient: false,
    }),
  ]);
  return [
    ...comparisons,
    ...operation(
      "where",
      { c: booleans([2, 3], "where"), a: spread([2, 3], "a"), b: spread([2, 3], "b") },
      (ops, { c, a, b }) => ops.where(c, a, b),
    ),
    ...operation(
      "where with broadcasting of all three",
      { c: booleans([3, 1], "where"), a: spread([2, 1, 4], "a"), b: spread([], "b") },
      (ops, { c, a, b }) => ops.where(c, a, b),
    ),
    ...operation("where with numbers", { c: booleans([4], "where"), a: spread([2, 4], "a") }, (ops, { c, a }) =>
      ops.add(ops.where(c, a, -1), ops.where(c, 2, ops.square(a))),
    ),
    ...operation("where under a comparison", { a: spread([6], "a") }, (ops, { a }) =>
      ops.where(ops.greater(a, 0), ops.exp(a), ops.mul(a, 3)),
    ),
  ];
}

/** As `spread`, moved to lie between the values that `spread` gives to the other operands of `broadcasts`. */
function between(shape: Shape, seed: string): HostTensor {
  return HostTensor.from(
    shape,
    Array.from(spread(shape, seed).data, (value) => 0.83 * value + 0.083),
  );
}

function scaledBy(factor: number, tensor: HostTensor): HostTensor {
  return HostTensor.from(
    tensor.shape,
    Array.from(tensor.data, (value) => factor * value),
  );
}

/** -1, -0.5, 0, 0.5 or 1. */
function halves(shape: Shape, seed: string): HostTensor {
  return HostTensor.from(
    shape,
    Array.from(wholeNumbers(shape, 5, seed).data, (value) => value / 2 - 1),
  );
}

function reductionCases(): ConformanceCase[] {
  const variants: readonly (readonly [Shape, ReduceOptions | undefined])[] = [
    [[], undefined],
    [[5], undefined],
    [[2, 3, 4], undefined],
    [[2, 3, 4], { axes: [1] }],
    [[2, 3, 4], { axes: [-1], keepDims: true }],
    [[2, 3, 4], { axes: [0, 2] }],
    [[2, 3, 4], { axes: [-1, 0], keepDims: true }],
    [[2, 3], { axes: [] }],
    [[2, 2, 1, 3, 1, 2], { axes: [1, 3, -1] }],
  ];
  return [
    ...(["sum", "mean", "max"] as const).flatMap((name) =>
      variants.flatMap(([shape, options]) =>
        operation(
          `${name} of ${show(shape)} over ${options?.axes ? show(options.axes) : "all axes"}`,
          { x: spread(shape, name) },
          (ops, { x }) => ops[name](x, options),
        ),
      ),
    ),
    ...operation(
      "mean of 262,144 elements",
      { x: spread([2, 512, 256], "mean") },
      (ops, { x }) => ops.mean(ops.add(x, 3)),
      { gradient: false },
    ),
    ...operation(
      "sum of 48,000 elements of one axis",
      { x: positive([2, 48_000], "sum") },
      (ops, { x }) => ops.sum(x, { axes: [1] }),
      { gradient: false },
    ),
    ...[0, 1, -1].flatMap((axis) => [
      ...operation(
        `argMax over axis ${axis}`,
        { x: spread([3, 4, 5], "argMax") },
        (ops, { x }) => ops.argMax(x, axis),
        {
          gradient: false,
        },
      ),
      ...operation(`softmax over axis ${axis}`, { x: spread([2, 3, 4], "softmax") }, (ops, { x }) =>
        ops.softmax(x, axis),
      ),
    ]),
    ...operation("argMax of equal elements", { x: halves([4, 30], "argMax") }, (ops, { x }) => ops.argMax(x, 1), {
      gradient: false,
    }),
    ...operation(
      "softmax of large numbers",
      { x: HostTensor.from([2, 3], [1000, 999, 998, -1000, -999, -1001]) },
      (ops, { x }) => ops.softmax(x, -1),
    ),
  ];
}

function matmulCases(): ConformanceCase[] {
  const product = (
    left: Shape,
    right: Shape,
    transposeA = false,
    transposeB = false,
    options = {},
  ): ConformanceCase[] =>
    operation(
      `matmul of ${show(left)}${transposeA ? " transposed" : ""} and ${show(right)}${transposeB ? " transposed" : ""}`,
      { a: spread(left, "left"), b: spread(right, "right") },
      (ops, { a, b }) => ops.matmul(a, b, { transposeA, transposeB }),
      options,
    );
  return [
    ...product([3, 4], [4, 5]),
    ...product([4, 3], [4, 5], true),
    ...product([3, 4], [5, 4], false, true),
    ...product([4, 3], [5, 4], true, true),
    ...product([1, 5], [5, 1]),
    ...product([2, 3, 4], [2, 4, 2]),
    ...product([2, 4, 3], [2, 2, 4], true, true),
    ...product([3, 2, 4], [4, 3]),
    ...product([3, 4, 2], [4, 3], true),
    ...product([2, 3], [4, 3, 2]),
    ...product([2, 1, 2, 3], [3, 3, 2]),
    ...product([1, 2, 3], [4, 3, 2]),
    ...product([2, 2, 3, 2], [2, 2, 4, 3], true, true),
    // Large enough for kernels that work in blocks.
    ...product([3, 37, 53], [3, 53, 41]),
    ...product([3, 53, 37], [3, 41, 53], true, true),
  ];
}

function imageCases(): ConformanceCase[] {
  const convolution = (
    what: string,
    x: Shape,
    weight: Shape,
    options: Conv2dOptions = {},
    bias = true,
  ): ConformanceCase[] => {
    const images = { x: spread(x, "image"), weight: spread(weight, "weight") };
    const name = `conv2d of ${show(x)} with ${show(weight)}, ${what}`;
    return bias
      ? operation(name, { ...images, bias: spread([weight[0] ?? 0], "bias") }, (ops, t) =>
          ops.conv2d(t.x, t.weight, t.bias, options),
        )
      : operation(name, images, (ops, t) => ops.conv2d(t.x, t.weight, undefined, options));
  };
  const pools = (["avgPool2d", "maxPool2d"] as const).flatMap((name) =>
    (
      [
        [[2, 3, 4, 6], 2],
        [[1, 2, 4, 2], 2],
        [[1, 2, 3, 6], 3],
        [[1, 2, 3, 2], 1],
      ] as const
    ).flatMap(([shape, k]) =>
      operation(`${name} of ${show(shape)} by ${k}`, { x: spread(shape, name) }, (ops, { x }) => ops[name](x, k)),
    ),
  );
  const resizes = (
    [
      [[2, 2, 3, 3], 6, 6],
      [[1, 2, 2, 3], 6, 9],
      [[1, 2, 2, 3], 4, 9],
      [[1, 1, 4, 5], 3, 7],
      [[1, 2, 4, 4], 2, 2],
      [[1, 1, 5, 3], 2, 3],
      [[1, 1, 3, 2], 3, 2],
      // 1 / 41 is a little smaller in float32: 41 * (2 / 82) comes to less than 1 there.
      [[1, 1, 2, 2], 82, 3],
    ] as const
  ).flatMap(([shape, height, width]) =>
    operation(
      `resizeNearest of ${show(shape)} to ${show([height, width])}`,
      { x: spread(shape, "resize") },
      (ops, { x }) => ops.resizeNearest(x, [height, width]),
    ),
  );
  return [
    ...convolution("padding 1", [1, 2, 3, 3], [2, 2, 2, 2], { padding: 1 }, false),
    ...convolution("without padding", [1, 1, 3, 4], [2, 1, 3, 3]),
    ...convolution("padding 1", [2, 3, 5, 6], [4, 3, 3, 3], { padding: 1 }),
    ...convolution("pointwise", [2, 3, 4, 3], [5, 3, 1, 1]),
    ...convolution("pointwise with padding", [1, 2, 2, 2], [2, 2, 1, 1], { padding: 1 }),
    ...convolution("stride 2 and padding 1", [2, 2, 6, 7], [3, 2, 3, 3], { stride: 2, padding: 1 }),
    ...convolution("stride 2 and padding at the end", [1, 2, 6, 6], [3, 2, 3, 3], { stride: 2, padding: [0, 1, 0, 1] }),
    ...convolution("stride 2, skipping a rest", [1, 1, 4, 4], [1, 1, 1, 1], { stride: 2 }, false),
    ...convolution("stride 3, skipping a rest", [1, 2, 7, 8], [2, 2, 2, 2], { stride: 3 }),
    ...convolution("an even kernel", [1, 2, 4, 4], [1, 2, 4, 4], { stride: 2, padding: 1 }),
    ...convolution("a long kernel", [1, 2, 5, 4], [2, 2, 1, 3], { padding: [0, 0, 1, 1] }),
    ...convolution("four paddings", [1, 1, 3, 3], [1, 1, 2, 3], { padding: [2, 0, 1, 3] }, false),
    ...convolution("blocks of channels", [2, 8, 6, 6], [9, 8, 3, 3], { padding: 1 }),
    ...convolution("blocks of channels and many pixels", [2, 16, 16, 16], [32, 16, 3, 3], { padding: 1 }),
    ...convolution("the same with stride 2", [2, 16, 32, 32], [16, 16, 3, 3], { stride: 2, padding: 1 }, false),
    ...pools,
    ...resizes,
  ];
}

function shapeCases(): ConformanceCase[] {
  const x = spread([2, 3, 4], "shape");
  const six = spread([2, 1, 3, 2, 1, 2], "six");
  return [
    ...operation("reshape", { x }, (ops, t) => ops.reshape(t.x, [4, -1])),
    ...operation("reshape to a scalar and back", { x: spread([1, 1], "one") }, (ops, t) =>
      ops.reshape(ops.reshape(t.x, []), [1]),
    ),
    ...operation("transpose of two axes", { x: spread([3, 4], "matrix") }, (ops, t) => ops.transpose(t.x, [1, 0])),
    ...operation("transpose of three axes", { x }, (ops, t) => ops.transpose(t.x, [2, 0, 1])),
    ...operation("transpose of four axes", { x: spread([2, 3, 2, 2], "four") }, (ops, t) =>
      ops.transpose(t.x, [0, 2, 3, 1]),
    ),
    ...operation("transpose of six axes", { x: six }, (ops, t) => ops.transpose(t.x, [5, 2, 0, 4, 3, 1])),
    ...operation("broadcastTo", { x: spread([3, 1], "broadcast") }, (ops, t) => ops.broadcastTo(t.x, [2, 3, 4])),
    ...operation("broadcastTo of a scalar", { x: spread([], "broadcast") }, (ops, t) => ops.broadcastTo(t.x, [2, 2])),
    ...operation("broadcastTo of six axes", { x: six }, (ops, t) => ops.broadcastTo(t.x, [2, 2, 3, 2, 3, 2])),
    ...operation(
      "concat along the last axis",
      { a: spread([2, 3], "a"), b: spread([2, 1], "b"), c: spread([2, 2], "c") },
      (ops, { a, b, c }) => ops.concat([a, b, c, a], -1),
    ),
    ...operation(
      "concat along the first axis",
      { a: spread([2, 3, 2], "a"), b: spread([1, 3, 2], "b") },
      (ops, { a, b }) => ops.concat([a, b], 0),
    ),
    ...operation("concat of one tensor", { a: spread([3], "a") }, (ops, { a }) => ops.concat([a], 0)),
    ...operation(
      "concat of five axes",
      { a: spread([2, 1, 2, 2, 1], "a"), b: spread([2, 1, 3, 2, 1], "b") },
      (ops, { a, b }) => ops.concat([a, b], 2),
    ),
    ...operation("slice of the first axis", { x }, (ops, t) => ops.slice(t.x, 0, 1, 1)),
    ...operation("slice of the last axis", { x }, (ops, t) => ops.slice(t.x, -1, 1, 2)),
    ...operation("slice of all", { x }, (ops, t) => ops.slice(t.x, 1, 0, 3)),
    ...operation("slice of six axes", { x: six }, (ops, t) => ops.slice(t.x, 2, 1, 2)),
    ...operation("pad", { x: spread([2, 3], "pad") }, (ops, t) =>
      ops.pad(t.x, [
        [1, 0],
        [2, 3],
      ]),
    ),
    ...operation("pad of an image", { x: spread([1, 2, 2, 3], "pad") }, (ops, t) =>
      ops.pad(t.x, [
        [0, 0],
        [0, 0],
        [1, 2],
        [0, 1],
      ]),
    ),
    ...operation("pad of five axes", { x: spread([2, 1, 2, 1, 2], "pad") }, (ops, t) =>
      ops.pad(t.x, [
        [0, 1],
        [0, 0],
        [1, 0],
        [2, 0],
        [0, 1],
      ]),
    ),
    ...([0, 1, -1] as const).flatMap((axis) =>
      operation(
        `gather along axis ${axis}, with repeated indices`,
        { x, i: wholeNumbers([2, 3], 2, "indices") },
        (ops, t) => ops.gather(t.x, t.i, axis),
      ),
    ),
    ...operation(
      "gather of one row",
      { x: spread([4, 3], "rows"), i: new HostTensor([], Int32Array.of(2)) },
      (ops, t) => ops.gather(t.x, t.i, 0),
    ),
    ...operation("cast to float32 of what is float32", { x: spread([3], "cast") }, (ops, t) =>
      ops.cast(t.x, "float32"),
    ),
  ];
}

function compositeCases(): ConformanceCase[] {
  const norm = { weight: positive([4], "norm weight"), bias: spread([4], "norm bias") };
  const heads = (tokens: number, seed: string): HostTensor => spread([1, 2, tokens, 3], seed);
  return [
    ...operation("silu", { x: spread([2, 3], "silu") }, (ops, { x }) => silu(ops, x)),
    ...operation("gelu", { x: spread([2, 3], "gelu") }, (ops, { x }) => gelu(ops, x)),
    ...operation("quickGelu", { x: spread([2, 3], "quickGelu") }, (ops, { x }) => quickGelu(ops, x)),
    ...operation(
      "linear",
      { x: spread([2, 2, 3], "x"), weight: spread([4, 3], "weight"), bias: spread([4], "bias") },
      (ops, { x, weight, bias }) => linear(ops, x, weight, bias),
    ),
    ...operation(
      "linear without bias",
      { x: spread([5, 3], "x"), weight: spread([2, 3], "weight") },
      (ops, { x, weight }) => linear(ops, x, weight, undefined),
    ),
    ...operation("groupNorm of an image", { x: spread([2, 4, 3, 3], "x"), ...norm }, (ops, { x, weight, bias }) =>
      groupNorm(ops, x, 2, weight, bias, 1e-5),
    ),
    ...operation("groupNorm with one group per channel", { x: spread([1, 4, 2, 2], "x"), ...norm }, (ops, t) =>
      groupNorm(ops, t.x, 4, t.weight, t.bias, 1e-6),
    ),
    ...operation("groupNorm of three axes", { x: spread([1, 4, 3], "x"), ...norm }, (ops, { x, weight, bias }) =>
      groupNorm(ops, x, 2, weight, bias, 1e-5),
    ),
    ...operation("layerNorm", { x: spread([2, 3, 4], "x"), ...norm }, (ops, { x, weight, bias }) =>
      layerNorm(ops, x, weight, bias, 1e-5),
    ),
    ...operation(
      "attention",
      { query: heads(2, "query"), key: heads(2, "key"), value: heads(2, "value") },
      (ops, { query, key, value }) => attention(ops, query, key, value, 0.5),
    ),
    ...operation(
      "attention with a mask, over another number of tokens",
      { query: heads(2, "query"), key: heads(4, "key"), value: heads(4, "value"), mask: spread([2, 4], "mask") },
      (ops, { query, key, value, mask }) => attention(ops, query, key, value, 0.5, mask),
    ),
    ...operation(
      "attention of two queries at a time",
      { query: heads(3, "query"), key: heads(4, "key"), value: heads(4, "value"), mask: spread([3, 4], "mask") },
      (ops, { query, key, value, mask }) => attention(ops, query, key, value, 0.5, mask, 16), // 2 heads * 4 keys each
    ),
  ];
}
