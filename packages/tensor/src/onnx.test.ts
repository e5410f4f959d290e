import * as ort from "onnxruntime-node";
import { describe, expect, it, test, vi } from "vitest";
import { conformanceCases, fromBackend, runCase } from "./conformance.js";
import type { SdxsError } from "./errors.js";
import { HostTensor } from "./host-tensor.js";
import { exportOnnx, onnxBackend } from "./onnx.js";
import type { Program } from "./program.js";

const backend = onnxBackend({ ort, threads: 1 });
const cases = conformanceCases().map((one) => [one.name, one] as const);

describe("onnx-cpu conforms", () => {
  const adapter = fromBackend(backend);

  test.each(cases)("%s", async (_name, one) => {
    expect(await runCase(adapter, one)).toMatchObject({ ok: true, message: "" });
  });
});

const doubled: Program<"x", "twice" | "same"> = (ops, { bias }, { x }) => ({
  twice: ops.add(ops.mul(x, 2), bias ?? 0),
  same: ops.reshape(x, [2, 1]),
});

describe("exportOnnx", () => {
  const weights = {
    bias: HostTensor.from(
      [512],
      Array.from({ length: 512 }, (_, i) => i),
    ),
  };
  const spec = { inputs: { x: { shape: [2, 1] } }, frozen: weights } as const;

  it("writes a model whose inputs and outputs bear the program's names", async () => {
    const { model, external } = exportOnnx(doubled, spec);
    const session = await ort.InferenceSession.create(model);
    expect(external).toEqual({});
    expect(session.inputNames).toEqual(["x"]);
    expect([...session.outputNames].sort()).toEqual(["same", "twice"]);
    const { twice, same } = await session.run({ x: new ort.Tensor("float32", Float32Array.of(3, 5), [2, 1]) });
    expect(twice?.dims).toEqual([2, 512]);
    expect([twice?.data[0], twice?.data[511], twice?.data[512]]).toEqual([6, 517, 10]);
    expect(same?.data).toEqual(Float32Array.of(3, 5));
  });

  it("puts weights into an external file on request, and gives the same results", async () => {
    const { model, external } = exportOnnx(doubled, spec, "weights.bin");
    const pieces = external["weights.bin"] ?? [];
    expect(pieces.map(({ length }) => length)).toEqual([2048]);
    const data = new Uint8Array(Buffer.concat(pieces));
    const session = await ort.InferenceSession.create(model, { externalData: [{ path: "weights.bin", data }] });
    const { twice } = await session.run({ x: new ort.Tensor("float32", Float32Array.of(3, 5), [2, 1]) });
    expect(twice?.data[511]).toBe(517);
  });
});

describe("onnxBackend", () => {
  it("says which input misses, has another shape or another type", async () => {
    const compiled = await backend.compile(doubled, {
      params: { bias: { shape: [1] } },
      inputs: { x: { shape: [2, 1] } },
    });
    const bias = HostTensor.filled([1], 0);
    const run = (x: HostTensor) => compiled.run({ bias }, { x });
    await expect(run(HostTensor.filled([3, 1], 0))).rejects.toMatchObject({ code: "SHAPE_MISMATCH" });
    await expect(run(new HostTensor([2, 1], new Int32Array(2)))).rejects.toMatchObject({ code: "DTYPE_MISMATCH" });
    await expect(compiled.run({ bias }, {} as { x: HostTensor })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    await expect(compiled.run({}, { x: HostTensor.filled([2, 1], 0) })).rejects.toMatchObject({
      code: "MISSING_PARAMETER",
    });
    await compiled.dispose();
    await expect(run(HostTensor.filled([2, 1], 0))).rejects.toMatchObject({ code: "DISPOSED" });
  });

  it("takes host tensors of another copy of the package", async () => {
    vi.resetModules();
    const x = (await import("./host-tensor.js")).HostTensor.from([2, 1], [3, 5]);
    expect(x).not.toBeInstanceOf(HostTensor);
    const frozen = { bias: HostTensor.scalar(1) };
    const compiled = await backend.compile(doubled, { inputs: { x: { shape: [2, 1] } }, frozen });
    const { twice } = await compiled.run({}, { x });
    expect((await backend.download(twice)).data).toEqual(Float32Array.of(7, 11));
    await compiled.dispose();
  });

  it("refuses optimiser options out of range, and gradients of other names and sizes", () => {
    expect(() => backend.trainable({ w: HostTensor.scalar(0) }, { emaDecay: 1 })).toThrow(
      expect.objectContaining({ code: "INVALID_ARGUMENT" }),
    );
    const trainable = backend.trainable({ w: HostTensor.scalar(0) }, {});
    const gradient = backend.upload(HostTensor.scalar(1));
    const codes = [{}, { w: gradient, v: gradient }, { w: backend.upload(HostTensor.filled([2], 1)) }].map((given) => {
      try {
        trainable.accumulate(given);
        return "none";
      } catch (error) {
        return (error as SdxsError).code;
      }
    });
    expect(codes).toEqual(["MISSING_PARAMETER", "UNEXPECTED_PARAMETER", "SHAPE_MISMATCH"]);
  });

  it("refuses a program whose input and parameter have one name", async () => {
    const spec = { frozen: { x: HostTensor.scalar(1) }, inputs: { x: { shape: [] } } };
    await expect(backend.compile((_ops, _params, { x }) => ({ x }), spec)).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
    });
  });
});
