import * as ort from "onnxruntime-node";
import { describe, expect, it } from "vitest";
import { attention, gelu, silu } from "../nn/functional.js";
import { HostTensor } from "../core/host-tensor.js";
import { initialize } from "../nn/initialize.js";
import { convLayer, groupNormLayer, linearLayer } from "../nn/layers.js";
import { exportOnnx, onnxBackend } from "../onnx.js";
import type { Ops } from "../core/ops.js";
import type { CompileSpec, Program } from "../core/program.js";
import { random } from "../core/random.js";
import { declareParameters } from "./declare-parameters.js";
import { scope, type Scope } from "../nn/scope.js";

const backend = onnxBackend({ ort, threads: 1 });

/** What a U-Net is made of: an embedded number, convolutions, norms, attention, a residual. */
function network<T>(ops: Ops<T>, p: Scope<T>, { x, t }: Readonly<Record<"x" | "t", T>>): T {
  const embedded = linearLayer(ops, p.at("time"), ops.concat([ops.sin(t), ops.cos(t)], 1), 16);
  const first = convLayer(ops, p.at("in"), ops.mul(x, 0.5), 16);
  const shifted = ops.add(first, ops.reshape(silu(ops, embedded), [1, 16, 1, 1]));
  const normal = silu(ops, groupNormLayer(ops, p.at("norm"), shifted, 4, 1e-5));
  const rows = ops.reshape(ops.transpose(ops.reshape(normal, [1, 16, 64]), [0, 2, 1]), [1, 1, 64, 16]);
  const mixed = attention(ops, rows, rows, rows, 0.25);
  const fed = gelu(ops, linearLayer(ops, p.at("ff"), ops.reshape(mixed, [1, 64, 16]), 16));
  const image = ops.reshape(ops.transpose(fed, [0, 2, 1]), [1, 16, 8, 8]);
  return ops.add(convLayer(ops, p.at("out"), ops.add(image, first), 4), ops.mul(x, 0.1));
}
const program: Program<"x" | "t", "y"> = (ops, params, inputs) => ({ y: network(ops, scope(ops, params), inputs) });
const inputs = { x: { shape: [1, 4, 8, 8] }, t: { shape: [1, 1] } } as const;
const params = initialize(declareParameters(network, inputs), 1);
const x = random(2).normal(inputs.x.shape);
const t = HostTensor.from([1, 1], [0.7]);

async function compute(precision: CompileSpec["precision"], frozen = params): Promise<HostTensor> {
  const compiled = await backend.compile(program, { frozen, inputs, ...(precision && { precision }) });
  const result = await backend.download((await compiled.run({}, { x, t })).y);
  await compiled.dispose();
  return result;
}

describe("float16", () => {
  it("computes what float32 does, to its own precision", async () => {
    const [exact, half] = [await compute("float32"), await compute("float16")];
    const differences = Array.from(exact.data, (value, i) => Math.abs(value - half.data[i]!));
    const largest = Math.max(...Array.from(exact.data, Math.abs));
    expect(half.shape).toEqual(exact.shape);
    expect(Math.max(...differences) / largest).toBeLessThan(4e-3); // a few of float16's steps, 2^-11
    expect(Math.max(...differences) / largest).toBeGreaterThan(1e-6); // float16 it is
  });

  it("keeps norms exact where float16 would overflow within them, and softmax of many", async () => {
    // Squares of 300 and their sum are beyond float16's 65504.
    const norm: Program<"x", "y"> = (ops, given, inputs) => {
      const wide = ops.conv2d(inputs.x, given["w"]!, undefined);
      const p = scope(ops, {
        weight: ops.constant(Float32Array.of(1), [1]),
        bias: ops.constant(Float32Array.of(0), [1]),
      });
      return { y: groupNormLayer(ops, p, wide, 1, 1e-5) };
    };
    const w = HostTensor.from([1, 1, 1, 1], [300]);
    const image = { x: random(3).normal([1, 1, 64, 64]) };
    const run = async (precision: "float32" | "float16") => {
      const compiled = await backend.compile(norm, { frozen: { w }, inputs: { x: image.x }, precision });
      return (await backend.download((await compiled.run({}, image)).y)).data;
    };
    const [exact, half] = [await run("float32"), await run("float16")];
    expect(Math.max(...Array.from(exact, (value, i) => Math.abs(value - half[i]!)))).toBeLessThan(4e-3);
  });

  it("halves what a file weighs, and leaves its inputs and outputs float32", async () => {
    const large = { w: random(4).normal([64, 64, 3, 3]) };
    const convolution: Program<"x", "y"> = (ops, { w }, given) => ({
      y: ops.conv2d(given.x, w!, undefined, { padding: 1 }),
    });
    const spec = { frozen: large, inputs: { x: { shape: [1, 64, 8, 8] } } } as const;
    const [single, half] = [exportOnnx(convolution, spec), exportOnnx(convolution, { ...spec, precision: "float16" })];
    expect(half.model.length).toBeLessThan(0.51 * single.model.length);
    const session = await ort.InferenceSession.create(half.model);
    expect([session.inputMetadata, session.outputMetadata]).toMatchObject([
      [{ type: "float32" }],
      [{ type: "float32" }],
    ]);
    await session.release();
  });

  it("names a weight that it cannot hold, and refuses int8 besides", async () => {
    const tooLarge = { ...params, "out.bias": HostTensor.filled([4], 7e4) };
    await expect(compute("float16", tooLarge)).rejects.toThrow(/the weight "out.bias" holds 70000, F16 ends at 65504/);
    const range = { input: [-1, 1], output: [-1, 1] } as const;
    const int8 = { "out.weight": range };
    await expect(backend.compile(program, { frozen: params, inputs, int8, precision: "float16" })).rejects.toThrow(
      "Give one of int8 and precision",
    );
  });
});
