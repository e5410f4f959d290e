import { describe, expect, it } from "vitest";
import { attention, groupNorm, linear, silu } from "../nn/functional.js";
import { GraphBuilder } from "../graph/builder.js";
import type { GraphOps } from "../graph/graph-ops.js";
import type { Node } from "../graph/node.js";
import { compilePlan, type DeviceTraits } from "./compile.js";
import type { Plan } from "./passes/reuse-buffers.js";

const traits: DeviceTraits = {
  hasFloat16: true,
  hasSubgroupMatrices: true,
  maxThreads: 256,
  maxBuffersPerKernel: 8,
  maxTensorBytes: 2 ** 30,
  maxBufferBytes: 2 ** 30,
};

function planned(
  program: (ops: GraphOps, builder: GraphBuilder) => Record<string, Node>,
  precision: "float32" | "float16" = "float32",
): Plan {
  const builder = new GraphBuilder(undefined, Infinity);
  return compilePlan(program(builder.ops, builder), precision, traits);
}
const labels = ({ steps }: Plan): string[] => steps.map(({ label }) => label);
const ones = (builder: GraphBuilder, ...shape: number[]): Node =>
  builder.constant(new Float32Array(shape.reduce((product, size) => product * size, 1)).fill(1), shape);

describe("compilePlan", () => {
  it("fuses an activation into its norm, and bias and skip connection into their convolution", () => {
    const plan = planned((ops, builder) => {
      const x = builder.input("x", [1, 8, 4, 4], "float32");
      const hidden = silu(ops, groupNorm(ops, x, 2, ones(builder, 8), ones(builder, 8), 1e-5));
      return { y: ops.add(x, ops.conv2d(hidden, ones(builder, 8, 8, 3, 3), ones(builder, 8), { padding: 1 })) };
    });
    expect(labels(plan)).toEqual(["normalize for mul 1x8x4x4", "convolution 1x4x4x8 over 72"]);
    // The weights, once, in the order in which they are read.
    expect(plan.preparation.map(({ label }) => label)).toEqual(["transpose 8x3x3x8"]);
    expect(plan.temporary).toHaveLength(1);
  });

  it("fuses attention's scale and a linear layer's bias into their GEMMs", () => {
    const plan = planned((ops, builder) => {
      const x = builder.input("x", [1, 12, 16], "float32");
      const rows = linear(ops, x, ones(builder, 16, 16), ones(builder, 16));
      const heads = ops.transpose(ops.reshape(rows, [1, 12, 2, 8]), [0, 2, 1, 3]);
      return { y: attention(ops, heads, heads, heads, 0.5) };
    });
    expect(labels(plan)).toEqual([
      "gemm 12x16 over 16",
      "gemm 1x2x12x12 over 8",
      "softmax for softmax 1x2x12x12",
      "gemm 1x2x12x8 over 12",
    ]);
  });

  it("keeps images NHWC from convolution to convolution, and attends to pixels where they lie", () => {
    const plan = planned((ops, builder) => {
      const weight = ones(builder, 8, 4, 3, 3);
      const image = ops.conv2d(builder.input("x", [1, 4, 8, 8], "float32"), weight, undefined, { padding: 1 });
      const normalized = groupNorm(ops, image, 2, ones(builder, 8), ones(builder, 8), 1e-5);
      const tokens = ops.transpose(ops.reshape(normalized, [1, 8, 64]), [0, 2, 1]);
      const seen = linear(ops, tokens, ones(builder, 8, 8), undefined);
      const added = ops.add(ops.reshape(ops.transpose(seen, [0, 2, 1]), [1, 8, 8, 8]), image);
      return { y: ops.conv2d(added, ones(builder, 8, 8, 3, 3), undefined, { padding: 1 }) };
    });
    expect(labels(plan)).toEqual([
      "convolution 1x8x8x8 over 36",
      "normalize for add 1x64x8",
      "gemm 64x8 over 8",
      "convolution 1x8x8x8 over 72",
    ]);
  });

  it("upsamples an image within the convolution that reads it", () => {
    const plan = planned((ops, builder) => {
      const image = ops.conv2d(builder.input("x", [1, 4, 8, 8], "float32"), ones(builder, 8, 4, 1, 1), undefined);
      return {
        y: ops.conv2d(ops.resizeNearest(image, [16, 16]), ones(builder, 4, 8, 3, 3), undefined, { padding: 1 }),
      };
    });
    expect(labels(plan)).toEqual(["gemm 64x8 over 4", "convolution 1x16x16x4 over 72"]);
  });

  it("merges GEMMs of one operand, and stores heads of attention side by side", () => {
    const plan = planned((ops, builder) => {
      const x = builder.input("x", [12, 16], "float32");
      const heads = (weight: Node): Node =>
        ops.transpose(ops.reshape(linear(ops, x, weight, undefined), [1, 12, 2, 8]), [0, 2, 1, 3]);
      const [q, k, v] = [1, 2, 3].map((value) =>
        heads(builder.constant(new Float32Array(256).fill(value), [16, 16])),
      ) as [Node, Node, Node];
      const together = ops.reshape(ops.transpose(attention(ops, q, k, v, 0.5), [0, 2, 1, 3]), [12, 16]);
      return { y: linear(ops, together, ones(builder, 16, 16), ones(builder, 16)) };
    });
    expect(labels(plan)).toEqual([
      "gemm 12x48 over 16",
      "gemm 1x2x12x12 over 8",
      "softmax for softmax 1x2x12x12",
      "gemm 1x2x12x8 over 12",
      "gemm 12x16 over 16",
    ]);
  });

  it("folds constants", () => {
    const plan = planned((ops, builder) => {
      const x = builder.input("x", [4], "float32");
      return { y: ops.add(x, ops.exp(ops.sum(ones(builder, 64, 4), { axes: [0] }))) };
    });
    expect(labels(plan)).toEqual(["add 4"]);
    expect(plan.preparation).toHaveLength(1);
  });

  it("stores operands of GEMMs in float16, for subgroup matrices, and results in float32", () => {
    const plan = planned((ops, builder) => {
      const x = builder.input("x", [64, 64], "float32");
      return { y: ops.matmul(ops.exp(ops.matmul(x, ones(builder, 64, 64))), ones(builder, 64, 64)) };
    }, "float16");
    const [first, second] = plan.steps;
    expect(first!.code).toContain("var<storage, read_write> result: array<vec4<f16>>");
    expect(first!.code).toContain("subgroupMatrixMultiplyAccumulate");
    expect(second!.code).toContain("var<storage, read_write> result: array<vec4<f32>>");
    expect(plan.constants.map(({ storage }) => storage)).toEqual(["f16", "f16"]);
  });

  it("splits long sums and long norms among workgroups", () => {
    const plan = planned((ops, builder) => {
      const x = builder.input("x", [8, 4096], "float32");
      return {
        product: ops.matmul(x, ones(builder, 16, 4096), { transposeB: true }),
        norm: ops.normalize(builder.input("long", [2, 6144], "float32"), 1e-5),
      };
    });
    expect(labels(plan)).toEqual([
      "gemm 8x16 over 4096",
      "4 parts of gemm 8x16",
      "parts of normalize for normalize 2x6144",
      "normalize for normalize 2x6144",
    ]);
  });

  it("reads no more buffers in a kernel than the device allows", () => {
    const plan = planned((ops, builder) => {
      const inputs = Array.from({ length: 40 }, (_, i) => builder.input(`x${i}`, [4], "float32"));
      return { y: inputs.reduce((sum, x) => ops.add(sum, ops.exp(x))) };
    });
    const behindSum = planned((ops, builder) => {
      const inputs = Array.from({ length: 12 }, (_, i) => builder.input(`x${i}`, [4], "float32"));
      return {
        y: inputs.reduce((sum, x) => ops.add(sum, x), ops.sum(builder.input("x", [4, 9], "float32"), { axes: [1] })),
      };
    });
    const joined = planned((ops, builder) => ({
      y: ops.concat(
        Array.from({ length: 40 }, (_, i) => builder.input(`x${i}`, [4], "float32")),
        0,
      ),
    }));
    for (const { slots } of [...plan.steps, ...behindSum.steps, ...joined.steps]) {
      expect(slots.length).toBeLessThanOrEqual(traits.maxBuffersPerKernel);
    }
    expect(plan.steps.length).toBeGreaterThan(1);
  });

  it("reuses buffers of values that are dead", () => {
    const deep = (layers: number): Plan =>
      planned((ops, builder) => {
        let x = builder.input("x", [64, 64], "float32");
        for (let i = 0; i < layers; i++) x = ops.relu(ops.matmul(x, ones(builder, 64, 64)));
        return { x };
      });
    const bytes = ({ slotBytes, constants }: Plan): number =>
      [...slotBytes.values()].reduce((sum, size) => sum + size, 0) - constants.length * 64 * 64 * 4;
    expect(bytes(deep(8))).toBe(bytes(deep(3)));
  });

  it("binds a table that is too large for one binding in parts, where it lies", () => {
    const table = (rows: number) => {
      const builder = new GraphBuilder(undefined, Infinity);
      const { ops } = builder;
      const [weights, ids] = [builder.input("w", [rows, 24], "float32"), builder.input("ids", [3], "int32")];
      return compilePlan({ y: ops.mul(ops.gather(weights, ids, 0), 2) }, "float32", {
        ...traits,
        maxTensorBytes: 4096,
        maxBufferBytes: 8192,
      });
    };
    const { given, steps, slotBytes } = table(80);
    // Rows of 96 bytes, of which eight begin at multiples of 256 bytes.
    expect(given.get("w")).toEqual([
      { slot: expect.any(Number), offset: 0, bytes: 3840 },
      { slot: expect.any(Number), offset: 3840, bytes: 3840 },
    ]);
    expect(given.get("ids")).toMatchObject([{ offset: 0, bytes: 12 }]);
    expect(steps.map(({ slots }) => slots.length)).toEqual([4]);
    expect([...slotBytes.values()]).toEqual([]);
    expect(() => table(90)).toThrow(
      expect.objectContaining({
        code: "BACKEND_FAILURE",
        message: expect.stringMatching(/^"w": .*8640 bytes.*8192\./),
      }),
    );
  });

  it("merges no GEMMs whose weights exceed one binding together", () => {
    const builder = new GraphBuilder(undefined, Infinity);
    const x = builder.input("x", [12, 16], "float32");
    const layers = Array.from({ length: 5 }, () => linear(builder.ops, x, ones(builder, 16, 16), undefined));
    const outputs = Object.fromEntries(layers.map((layer, i) => [`y${i}`, layer]));
    const plan = compilePlan(outputs, "float32", { ...traits, maxTensorBytes: 2 * 1024 });
    const products = labels(plan).filter((label) => label.startsWith("gemm"));
    expect(products).toEqual(["gemm 12x32 over 16", "gemm 12x32 over 16", "gemm 12x16 over 16"]);
  });
});
