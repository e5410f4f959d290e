import { describe, expect, it } from "vitest";
import { HostTensor, sizeOf } from "../../core/host-tensor.js";
import type { Ops, TensorMap } from "../../core/ops.js";
import { mapTensors, specsOf } from "../../core/parameters.js";
import type { Program } from "../../core/program.js";
import { GraphBuilder } from "../../graph/builder.js";
import { recordProgram } from "../../graph/record.js";
import { referenceOps } from "../../reference/ops.js";
import { fromHost, toHost } from "../../reference/tensor.js";
import { compilePlan, type DeviceTraits } from "../compile.js";
import type { Plan } from "../passes/reuse-buffers.js";
import { runPlan } from "./plan-runner.test-support.js";
import { LARGE, LARGE_REGISTERS, NARROW, REGISTERS, SMALL, type Tile } from "./tile-choice.js";

// The kernels' values, with and without subgroup matrices, in an interpreter. Elements are quarters, so that products and sums
// are exact in float32, and in float16 up to 128: results must be equal to those in double precision.

const traits: DeviceTraits = {
  hasFloat16: true,
  hasSubgroupMatrices: true,
  maxThreads: 256,
  maxBuffersPerKernel: 8,
  maxTensorBytes: 2 ** 30,
  maxBufferBytes: 2 ** 30,
};

/** -1/2 to 1/2 by quarters, in no regular order. */
function quarters(seed: number, ...shape: number[]): HostTensor {
  let state = seed;
  const next = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor(state / 2 ** 16) % 5;
  };
  return new HostTensor(
    shape,
    Float32Array.from({ length: sizeOf(shape) }, () => (next() - 2) / 4),
  );
}

interface Case {
  readonly inputs: TensorMap<HostTensor>;
  readonly frozen?: TensorMap<HostTensor>;
  readonly program: <T>(ops: Ops<T>, given: TensorMap<T>) => T;
  /** What `referenceOps` does not compute: gradients. */
  readonly expected?: HostTensor;
}

/** The gradients of sum(gradient * conv2d(image, filters)), by their definition. */
function convolutionGradients(
  image: HostTensor,
  filters: HostTensor,
  gradient: HostTensor,
  { stride, padding }: { readonly stride: number; readonly padding: number },
): { readonly image: HostTensor; readonly filters: HostTensor } {
  const [, channels, height, width] = image.shape as [number, number, number, number];
  const [, , kernelHeight, kernelWidth] = filters.shape as [number, number, number, number];
  const [, outChannels, outHeight, outWidth] = gradient.shape as [number, number, number, number];
  const byImage = new Float32Array(image.data.length);
  const byFilters = new Float32Array(filters.data.length);
  gradient.data.forEach((value, i) => {
    const [x, y] = [i % outWidth, Math.floor(i / outWidth) % outHeight];
    const plane = Math.floor(i / outWidth / outHeight);
    const [out, sample] = [plane % outChannels, Math.floor(plane / outChannels)];
    for (let channel = 0; channel < channels; channel++)
      for (let ky = 0; ky < kernelHeight; ky++)
        for (let kx = 0; kx < kernelWidth; kx++) {
          const [row, column] = [y * stride - padding + ky, x * stride - padding + kx];
          if (row < 0 || row >= height || column < 0 || column >= width) continue;
          const pixel = ((sample * channels + channel) * height + row) * width + column;
          const weight = ((out * channels + channel) * kernelHeight + ky) * kernelWidth + kx;
          byImage[pixel]! += value * filters.data[weight]!;
          byFilters[weight]! += value * image.data[pixel]!;
        }
  });
  return { image: new HostTensor(image.shape, byImage), filters: new HostTensor(filters.shape, byFilters) };
}

const convolved = {
  image: quarters(29, 2, 5, 9, 7),
  filters: quarters(30, 18, 5, 3, 3),
  gradient: quarters(31, 2, 18, 5, 4),
};
const window = { stride: 2, padding: 1 };
const gradients = convolutionGradients(convolved.image, convolved.filters, convolved.gradient, window);
const gradientOf =
  (name: "image" | "filters") =>
  <T>(ops: Ops<T>, { gradient, ...given }: TensorMap<T>): T =>
    ops.valueAndGrad(
      (x) => {
        const { image, filters } = { ...given, ...x } as TensorMap<T>;
        return { loss: ops.sum(ops.mul(ops.conv2d(image!, filters!, undefined, window), gradient!)), aux: {} };
      },
      { [name]: given[name]! },
    ).grads[name]!;

const cases: Readonly<Record<string, Case>> = {
  "a product of sizes that no tile divides": {
    inputs: { a: quarters(1, 70, 37) },
    frozen: { b: quarters(2, 37, 21) },
    program: (ops, { a, b }) => ops.matmul(a!, b!),
  },
  "a product of two inputs, whose rows are read in vectors": {
    inputs: { a: quarters(3, 64, 96), b: quarters(4, 96, 64) },
    program: (ops, { a, b }) => ops.matmul(a!, b!),
  },
  "a product with a transposed left operand": {
    inputs: { a: quarters(5, 72, 136) },
    frozen: { b: quarters(6, 72, 24) },
    program: (ops, { a, b }) => ops.matmul(a!, b!, { transposeA: true }),
  },
  "a layer with bias, activation and skip connection": {
    inputs: { a: quarters(7, 50, 80), skip: quarters(8, 50, 48) },
    frozen: { b: quarters(9, 48, 80), bias: quarters(10, 48) },
    program: (ops, { a, b, bias, skip }) =>
      ops.add(ops.relu(ops.add(ops.matmul(a!, b!, { transposeB: true }), bias!)), skip!),
  },
  "layers behind each other, stored as float16 between them": {
    inputs: { a: quarters(11, 40, 32) },
    frozen: { first: quarters(12, 32, 72), second: quarters(13, 16, 72) },
    program: (ops, { a, first, second }) => ops.matmul(ops.relu(ops.matmul(a!, first!)), second!, { transposeB: true }),
  },
  "batches that broadcast": {
    inputs: { a: quarters(14, 2, 3, 33, 20), b: quarters(15, 3, 20, 18) },
    program: (ops, { a, b }) => ops.matmul(a!, b!),
  },
  "heads that are stored transposed": {
    inputs: { a: quarters(16, 36, 32) },
    frozen: { b: quarters(17, 32, 64) },
    program: (ops, { a, b }) => ops.transpose(ops.reshape(ops.matmul(a!, b!), [1, 36, 4, 16]), [0, 2, 1, 3]),
  },
  "a convolution with stride over an NCHW image": {
    inputs: { image: quarters(18, 2, 6, 9, 8) },
    frozen: { filters: quarters(19, 20, 6, 3, 3), bias: quarters(20, 20) },
    program: (ops, { image, filters, bias }) => ops.conv2d(image!, filters!, bias, { stride: 2, padding: 1 }),
  },
  "convolutions over NHWC images, one with stride and padding, one upsampled": {
    inputs: { image: quarters(21, 1, 8, 6, 6) },
    frozen: { first: quarters(22, 16, 8, 3, 3), second: quarters(23, 24, 16, 3, 3), third: quarters(24, 4, 24, 3, 3) },
    program: (ops, { image, first, second, third }) => {
      const wide = ops.relu(ops.conv2d(image!, first!, undefined, { padding: 1 }));
      const small = ops.mul(ops.conv2d(wide, second!, undefined, { padding: 1, stride: 2 }), 1 / 64);
      return ops.conv2d(ops.resizeNearest(small, [6, 6]), third!, undefined, { padding: 1 });
    },
  },
  "a convolution whose channels fill tiles": {
    inputs: { image: quarters(25, 1, 64, 7, 5), skip: quarters(26, 1, 64, 7, 5) },
    frozen: { first: quarters(27, 64, 64, 1, 1), second: quarters(28, 64, 64, 3, 3) },
    program: (ops, { image, skip, first, second }) => {
      const mixed = ops.mul(ops.conv2d(image!, first!, undefined), 1 / 16);
      return ops.add(ops.conv2d(mixed, second!, undefined, { padding: 1 }), skip!);
    },
  },
  "a convolution's gradient by its image": {
    inputs: convolved,
    program: gradientOf("image"),
    expected: gradients.image,
  },
  "a convolution's gradient by its filters": {
    inputs: convolved,
    program: gradientOf("filters"),
    expected: gradients.filters,
  },
};

interface Form {
  readonly tile: Tile;
  readonly splitK: number;
  readonly precision: "float32" | "float16";
}

const forms: readonly Form[] = [
  { tile: LARGE, splitK: 1, precision: "float16" },
  { tile: LARGE, splitK: 2, precision: "float16" },
  { tile: SMALL, splitK: 1, precision: "float16" },
  { tile: SMALL, splitK: 3, precision: "float16" },
  { tile: NARROW, splitK: 1, precision: "float16" },
  { tile: REGISTERS, splitK: 1, precision: "float16" },
  { tile: REGISTERS, splitK: 3, precision: "float32" },
  { tile: LARGE_REGISTERS, splitK: 1, precision: "float32" },
  { tile: LARGE_REGISTERS, splitK: 2, precision: "float16" },
];

const isOfRegisters = (tile: Tile): boolean => tile === REGISTERS || tile === LARGE_REGISTERS;

const asProgram =
  ({ program }: Case): Program<string, "y"> =>
  (ops, params, inputs) => ({ y: program(ops, { ...params, ...inputs }) });

function planOf(one: Case, { tile, splitK, precision }: Form): Plan {
  const builder = new GraphBuilder(undefined, Infinity);
  const { outputs } = recordProgram(builder, asProgram(one), { inputs: specsOf(one.inputs), frozen: one.frozen ?? {} });
  const own = { ...traits, hasSubgroupMatrices: !isOfRegisters(tile) };
  return compilePlan(outputs, precision, own, { chooseTiling: () => ({ tile, splitK }) });
}

const expectedOf = (one: Case): HostTensor =>
  one.expected ?? toHost(one.program(referenceOps, mapTensors({ ...one.inputs, ...one.frozen }, fromHost)));

/** The largest difference; NaN where an element is. */
const difference = (actual: HostTensor, expected: HostTensor): number =>
  Array.from(expected.data).reduce((most, value, i) => Math.max(most, Math.abs(actual.data[i]! - value)), 0);

describe.each(forms)("kernels of $tile.name tiles in $precision, split-K $splitK", (form) => {
  it.each(Object.entries(cases))("compute %s as in double precision", (_name, one) => {
    const plan = planOf(one, form);
    const usesMatrices = plan.steps.some(({ code }) => code.includes("subgroupMatrixMultiply"));
    expect(usesMatrices).toBe(!isOfRegisters(form.tile));
    const { y } = runPlan(plan, one.inputs);
    const expected = expectedOf(one);
    expect(y!.shape).toEqual(expected.shape);
    expect(difference(y!, expected)).toBe(0);
  });
});

it("read eight float16 at once where each thread of a register tile has so many", () => {
  const layers = cases["layers behind each other, stored as float16 between them"]!;
  const reads = (form: Form): boolean[] =>
    planOf(layers, form).steps.map(({ code }) => code.includes("array<vec4<u32>>"));
  expect(reads({ tile: LARGE_REGISTERS, splitK: 1, precision: "float16" })).toEqual([false, true]);
  expect(reads({ tile: REGISTERS, splitK: 1, precision: "float16" })).toEqual([false, false]);
});

describe("kernels of subgroup matrices", () => {
  const form: Form = { tile: SMALL, splitK: 1, precision: "float16" };

  it("multiply float16 and add float32", () => {
    const [rows, inner] = [17, 2050];
    const input = new HostTensor([rows, inner], new Float32Array(rows * inner).fill(1 + 2 ** -12));
    const frozen = { b: new HostTensor([inner, 16], new Float32Array(inner * 16).fill(1)) };
    const one: Case = { inputs: { a: input }, frozen, program: (ops, { a, b }) => ops.matmul(a!, b!) };
    const value = (own: Form): number => runPlan(planOf(one, own), one.inputs)["y"]!.data[0]!;
    // 1 + 2^-12 is 1 in float16, and a sum in float16 would stay at 2048.
    expect(value(form)).toBe(inner);
    expect(value({ tile: REGISTERS, splitK: 1, precision: "float32" })).toBe(inner * (1 + 2 ** -12));
  });

  const layer = cases["layers behind each other, stored as float16 between them"]!;
  const run = (change: (code: string) => string): number => {
    const plan = planOf(layer, form);
    const steps = plan.steps.map((step) => ({ ...step, code: change(step.code) }));
    expect(steps).not.toEqual(plan.steps);
    return difference(runPlan({ ...plan, steps }, layer.inputs)["y"]!, expectedOf(layer));
  };

  it.each([
    ["stride of a fragment", /, 18u\);/, ", 16u);"],
    ["stride of stored sums", /, 32u\);/, ", 16u);"],
    ["place of a fragment", "own_row + 16u) * 72u", "own_row + 8u) * 72u"],
    ["order of a fragment", "row_major>(&left", "col_major>(&left"],
    ["offset of a tile's row", "* 72u + thread * 8u % 64u", "* 64u + thread * 8u % 64u"],
    ["bound of the result", / < 40u/g, " < 32u"],
    ["part of a vector", "bitcast<vec4<f16>>(left0.zw)", "bitcast<vec4<f16>>(left0.xy)"],
  ])("give other values with another %s", (_name, pattern, replacement) => {
    expect(run((code) => code.replace(pattern, replacement))).not.toBe(0);
  });

  it.each([
    ["a barrier is missing", "workgroupBarrier();\n", "", /race for/],
    ["threads of a subgroup differ", "&left, ", "&left, lane * 0u + thread % 2u + ", /different subgroup matrices/],
    ["a thread leaves before the others", "let warp =", "if (thread == 5u) { return; }\nlet warp =", /the others end/],
    [
      "an element lies outside of its array",
      "right0.xy",
      "right0.xy);\nright[thread + 65536u] = vec4<f16>(",
      /outside/,
    ],
  ])("are refused where %s", (_name, pattern, replacement, message) => {
    expect(() => run((code) => code.replace(pattern, replacement))).toThrow(message);
  });
});
