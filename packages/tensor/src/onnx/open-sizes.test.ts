import * as ort from "onnxruntime-node";
import { describe, expect, it } from "vitest";
import type { Shape } from "../core/host-tensor.js";
import { initialize } from "../nn/initialize.js";
import { convLayer, groupNormLayer } from "../nn/layers.js";
import { exportOnnx, onnxBackend } from "../onnx.js";
import type { Ops } from "../core/ops.js";
import type { Program } from "../core/program.js";
import { random } from "../core/random.js";
import { declareParameters } from "../graph/declare-parameters.js";
import { scope, type Scope } from "../nn/scope.js";

const backend = onnxBackend({ ort, threads: 1 });

/** Convolutions, a norm over pixels, attention between pixels, a resize: all that shapes go into. */
function network<T>(ops: Ops<T>, p: Scope<T>, x: T): T {
  const halved = convLayer(ops, p.at("down"), x, 8, { kernel: 3, stride: 2, padding: 1 });
  const normal = groupNormLayer(ops, p.at("norm"), halved, 2, 1e-5);
  const [batch = 1, channels = 1, height = 1, width = 1] = ops.shape(normal);
  const rows = ops.transpose(ops.reshape(normal, [batch, channels, height * width]), [0, 2, 1]);
  const weights = ops.softmax(ops.matmul(rows, rows, { transposeB: true }), -1);
  const mixed = ops.reshape(ops.transpose(ops.matmul(weights, rows), [0, 2, 1]), [batch, channels, height, width]);
  const level = ops.mean(mixed, { axes: [1, 2, 3], keepDims: true });
  const leveled = ops.concat([mixed, ops.broadcastTo(level, [batch, 1, height, width])], 1);
  return ops.concat([ops.resizeNearest(leveled, [2 * height, 2 * width]), x], 1);
}
const program: Program<"x", "y"> = (ops, params, { x }) => ({ y: network(ops, scope(ops, params), x) });
const specs = declareParameters((ops, p, { x }) => network(ops, p, x), { x: { shape: [1, 4, 4, 4] } });
const params = initialize(specs, 1);
const open = { x: { shape: ["batch", 4, "height", "width"] } };

describe("exportOnnx with open sizes", () => {
  it("writes one model that computes what the program does at every size", async () => {
    const { model } = exportOnnx(program, { inputs: open, frozen: params }, { multiples: { height: 2, width: 2 } });
    const session = await ort.InferenceSession.create(model);
    const sizes: Shape[] = [
      [1, 4, 4, 4],
      [3, 4, 6, 10],
      [1, 4, 2, 2],
      [2, 4, 16, 8],
    ];
    for (const [seed, shape] of sizes.entries()) {
      const x = random(seed).normal(shape);
      const compiled = await backend.compile(program, { frozen: params, inputs: { x: { shape } } });
      const expected = await backend.download((await compiled.run({}, { x })).y);
      const { y } = await session.run({ x: new ort.Tensor("float32", x.data, shape) });
      expect(y!.dims).toEqual(expected.shape);
      const differences = Array.from(expected.data, (value, i) => Math.abs(value - Number(y!.data[i])));
      expect(Math.max(...differences)).toBeLessThan(1e-5);
      await compiled.dispose();
    }
    expect(session.inputMetadata).toMatchObject([{ shape: ["batch", 4, "height", "width"] }]);
    expect(session.outputMetadata).toMatchObject([{ shape: ["batch", 13, "height", "width"] }]);
    await session.release();
  });

  it("names a size that follows from open ones by its product", async () => {
    const flat: Program<"x", "y"> = (ops, _params, { x }) => ({
      y: ops.reshape(ops.maxPool2d(x, 2), [-1, (ops.shape(x)[2]! / 2) * (ops.shape(x)[3]! / 2)]),
    });
    const shape = [1, 4, "height", 6] as const;
    const { model } = exportOnnx(flat, { inputs: { x: { shape } } }, { multiples: { height: 2 } });
    const session = await ort.InferenceSession.create(model);
    expect(session.outputMetadata).toMatchObject([{ shape: [4, "3*height/2"] }]);
    await session.release();
  });

  it.each<[what: string, program: Program<"x", "y">]>([
    ["a constant", (ops, _params, { x }) => ({ y: ops.mul(x, 1 / ops.shape(x)[0]!) })],
    ["a sum of sizes", (ops, _params, { x }) => ({ y: ops.reshape(ops.pad(x, [[0, 1]]), [ops.shape(x)[0]! + 1, 1]) })],
  ])("refuses a size that goes into %s", (_what, uses) => {
    expect(() => exportOnnx(uses, { inputs: { x: { shape: ["n"] } } })).toThrow(
      "uses one of the open sizes n in something other than a product of sizes. Give them numbers.",
    );
  });

  it("refuses a resize by a broken factor, multiples of unknown sizes, and a size that no used input has", () => {
    const resized: Program<"x", "y"> = (ops, _params, { x }) => ({
      y: ops.resizeNearest(x, [ops.shape(x)[2]! * 1.5, 3]),
    });
    const broken = { inputs: { x: { shape: [1, 1, "height", 3] } } };
    expect(() => exportOnnx(resized, broken, { multiples: { height: 2 } })).toThrow(/a factor that is no whole number/);
    const identity: Program<"x" | "like", "y"> = (ops, _params, { x, like }) => ({
      y: ops.broadcastTo(x, ops.shape(like)),
    });
    const both = { inputs: { x: { shape: [1] }, like: { shape: ["n"] } } };
    expect(() => exportOnnx(identity, both)).toThrow(/no input that the outputs depend on has the size "n"/);
    expect(() => exportOnnx(identity, both, { multiples: { m: 2 } })).toThrow(
      /by the names of open sizes \(n\), got "m"/,
    );
  });
});
