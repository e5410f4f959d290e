import * as tf from "@tensorflow/tfjs";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { HostTensor, silu, type Program } from "../index.js";
import { tfjsBackend, tfjsOps } from "../tfjs.js";

const backend = await tfjsBackend({ tf, backend: "cpu" });
let tensorsBefore = 0;
beforeEach(() => {
  tensorsBefore = backend.memory().tensors;
});
afterEach(() => {
  expect(backend.memory().tensors).toBe(tensorsBefore);
});

const vector = (...values: number[]): HostTensor => HostTensor.from([values.length], values);

describe("tfjsOps", () => {
  test("takes and gives tf.Tensors that tf.grad differentiates", () => {
    const ops = tfjsOps(tf);
    tf.tidy(() => {
      const gradient = tf.grad((x) => tf.sum(silu(ops, x)))(tf.tensor1d([0, 1]));
      // d/dx x s(x) = s + x s (1 - s), s(1) = 0.7310586
      const [atZero, atOne] = gradient.dataSync();
      expect(atZero).toBeCloseTo(0.5, 6);
      expect(atOne).toBeCloseTo(0.7310586 + 0.7310586 * 0.2689414, 6);
    });
  });

  test("computes no weight gradient where only the image is differentiated", async () => {
    const ops = tfjsOps(tf);
    const kernels = await tf.profile(() =>
      tf.tidy(() => {
        const weight = tf.ones([2, 1, 3, 3]);
        return tf.grad((x) => tf.sum(ops.conv2d(x, weight, undefined)))(tf.ones([1, 1, 4, 4]));
      }),
    );
    expect(kernels.kernelNames).toContain("SdxsConv2DInputGradient");
    expect(kernels.kernelNames).not.toContain("SdxsConv2DWeightGradient");
    tf.dispose(kernels.result);
  });
});

describe("tfjsBackend", () => {
  test("names the package of a backend that was not imported", async () => {
    await expect(tfjsBackend({ tf, backend: "webgpu" })).rejects.toMatchObject({
      code: "MISSING_PACKAGE",
      message: expect.stringContaining("npm install @tensorflow/tfjs-backend-webgpu"),
    });
  });

  const affine: Program<"x", "y"> = (ops, params, { x }) => ({ y: ops.add(ops.mul(x, params["w"]!), params["b"]!) });

  test("runs a program with frozen parameters, host tensors and device tensors", async () => {
    const compiled = await backend.compile(affine, {
      params: { w: { shape: [2] } },
      frozen: { b: vector(10, 20) },
      inputs: { x: { shape: [2] } },
    });
    const w = backend.upload(vector(2, 3));
    const { y } = await compiled.run({ w }, { x: vector(1, -1) });
    expect(await backend.download(y)).toEqual(vector(12, 17));
    for (const tensor of [w, y]) backend.dispose(tensor);
    await compiled.dispose();
  });

  test("finds shapes that do not fit when it compiles", async () => {
    const specs = { params: { w: { shape: [2] }, b: { shape: [3] } }, inputs: { x: { shape: [2] } } };
    await expect(backend.compile(affine, specs)).rejects.toMatchObject({ code: "SHAPE_MISMATCH" });
  });

  test("rejects tensors that are not what the program was compiled for", async () => {
    const params = { w: vector(1, 1), b: vector(1, 1) };
    const specs = { params: { w: { shape: [2] }, b: { shape: [2] } }, inputs: { x: { shape: [2] } } };
    const compiled = await backend.compile(affine, specs);
    const x = vector(1, 1);
    await expect(compiled.run(params, { x: vector(1) })).rejects.toMatchObject({ code: "SHAPE_MISMATCH" });
    const ints = new HostTensor([2], Int32Array.of(1, 1));
    await expect(compiled.run(params, { x: ints })).rejects.toMatchObject({ code: "DTYPE_MISMATCH" });
    await expect(compiled.run({ w: params.w }, { x })).rejects.toMatchObject({ code: "MISSING_PARAMETER" });
    await compiled.dispose();
    await expect(compiled.run(params, { x })).rejects.toMatchObject({ code: "DISPOSED" });
  });

  test("copies what it uploads and downloads", async () => {
    const source = vector(1, 2);
    const tensor = backend.upload(source);
    source.data[0] = 9;
    const first = await backend.download(tensor);
    expect(first).toEqual(vector(1, 2));
    first.data[1] = 9;
    expect(await backend.download(tensor)).toEqual(vector(1, 2));
    backend.dispose(tensor);
  });
});
