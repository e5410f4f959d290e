import * as ort from "onnxruntime-node";
import { describe, expect, it, test, vi } from "vitest";
import { conformanceCases, fromBackend, runCase } from "./conformance.js";
import { HostTensor } from "./core/host-tensor.js";
import { exportOnnx, onnxBackend, traceProgram } from "./onnx.js";
import type { Program } from "./core/program.js";
import { random } from "./core/random.js";

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

  it("refuses one name for an input and an output", () => {
    const program: Program<"x", "x"> = (ops, _params, { x }) => ({ x: ops.mul(x, 2) });
    expect(() => exportOnnx(program, { inputs: { x: { shape: [1] } } })).toThrow(/"x" is the name of an input and/);
  });

  it("puts weights into an external file on request, and gives the same results", async () => {
    const { model, external } = exportOnnx(doubled, spec, { externalName: "weights.bin" });
    const pieces = external["weights.bin"] ?? [];
    expect(pieces.map(({ length }) => length)).toEqual([2048]);
    const data = new Uint8Array(Buffer.concat(pieces));
    const session = await ort.InferenceSession.create(model, { externalData: [{ path: "weights.bin", data }] });
    const { twice } = await session.run({ x: new ort.Tensor("float32", Float32Array.of(3, 5), [2, 1]) });
    expect(twice?.data[511]).toBe(517);
    const small = exportOnnx(doubled, spec, { externalName: "weights.bin", externalFromBytes: 4096 });
    expect(small.external).toEqual({});
  });

  it("stores weights as float16 on request, but no other constants, and computes in float32", async () => {
    const bias = HostTensor.filled([512], 1 + 2 ** -11 + 2 ** -20); // halfway between two float16 numbers, and a little
    const program: Program<"x", "y"> = (ops, given, { x }) => ({
      y: ops.add(ops.add(x, given["bias"] ?? 0), ops.constant(new Float32Array(512).fill(2 ** -20), [512])),
    });
    const { model } = exportOnnx(program, { inputs: spec.inputs, frozen: { bias } }, { weights: "float16" });
    expect(model.length).toBeLessThan(2 * 512 + 4 * 512 + 1024);
    const session = await ort.InferenceSession.create(model);
    const { y } = await session.run({ x: new ort.Tensor("float32", Float32Array.of(0, 0), [2, 1]) });
    expect(y?.data[0]).toBe(1 + 2 ** -10 + 2 ** -20);
    const large = { inputs: spec.inputs, frozen: { bias: HostTensor.filled([512], 7e4) } };
    expect(() => exportOnnx(program, large, { weights: "float16" })).toThrow(/the weight "bias" holds 70000/);
  });
});

describe("traceProgram for WebGPU", () => {
  // What it writes instead must mean the same; whether that helps is for e2e/webgpu to find out.
  const convolution: Program<"x" | "w", "y" | "gradient"> = (ops, _params, { x, w }) => {
    const { aux, grads } = ops.valueAndGrad(
      (given) => {
        const y = ops.conv2d(given["x"]!, w, undefined, { padding: 1 });
        return { loss: ops.sum(ops.mul(y, y)), aux: { y } };
      },
      { x },
    );
    return { y: aux["y"]!, gradient: grads["x"]! };
  };
  const trigonometry: Program<"x", "sine" | "cosine"> = (ops, _params, { x }) => ({
    sine: ops.sin(x),
    cosine: ops.cos(x),
  });
  const run = async <In extends string>(
    program: Program<In>,
    inputs: Readonly<Record<In, HostTensor>>,
    webgpu: boolean,
  ): Promise<readonly (readonly number[])[]> => {
    const { graph, outputs } = traceProgram(program, { inputs }, { webgpu });
    const session = await ort.InferenceSession.create(graph.serialize().model);
    const feeds = Object.entries<HostTensor>(inputs).map(
      ([name, { shape, data }]) => [name, new ort.Tensor("float32", data as Float32Array, shape)] as const,
    );
    const results = await session.run(Object.fromEntries(feeds));
    return Object.values(outputs).map(({ value }) => Array.from(results[value]?.data as Float32Array));
  };

  it("pads channels divisible by 3 and not by 4, and changes no value", async () => {
    const values = (shape: number[]) => random("channels", shape.join()).normal(shape);
    const inputs = { x: values([2, 9, 4, 5]), w: values([8, 9, 3, 3]) };
    const operators = (webgpu: boolean) =>
      new TextDecoder("latin1").decode(traceProgram(convolution, { inputs }, { webgpu }).graph.serialize().model);
    expect(operators(true)).toContain("Pad_");
    expect(operators(false)).not.toContain("Pad_");
    expect(await run(convolution, inputs, true)).toEqual(await run(convolution, inputs, false));
  });

  it("computes sines and cosines to 1e-6 from sums and products", async () => {
    const x = HostTensor.from(
      [1000],
      Array.from({ length: 1000 }, (_, i) => 2 * i - 1000.3),
    );
    const [sines = [], cosines = []] = await run(trigonometry, { x }, true);
    for (const [i, angle] of x.data.entries()) {
      expect(Math.abs((sines[i] ?? NaN) - Math.sin(angle))).toBeLessThan(1e-6);
      expect(Math.abs((cosines[i] ?? NaN) - Math.cos(angle))).toBeLessThan(1e-6);
    }
  });

  it("refuses tensors beyond the largest buffer, naming the operation", () => {
    const spec = { inputs: { x: { shape: [1024] } } };
    expect(() => traceProgram(trigonometry, spec, { maxTensorBytes: 4096 })).not.toThrow();
    expect(() => traceProgram(trigonometry, spec, { maxTensorBytes: 4095 })).toThrow(
      expect.objectContaining({
        code: "BACKEND_FAILURE",
        message: expect.stringMatching(/^input: .*\[1024\].*4096 bytes.* weights of this size take webgpuBackend/),
      }),
    );
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
    const x = (await import("./core/host-tensor.js")).HostTensor.from([2, 1], [3, 5]);
    expect(x).not.toBeInstanceOf(HostTensor);
    const frozen = { bias: HostTensor.scalar(1) };
    const compiled = await backend.compile(doubled, { inputs: { x: { shape: [2, 1] } }, frozen });
    const { twice } = await compiled.run({}, { x });
    expect((await backend.download(twice)).data).toEqual(Float32Array.of(7, 11));
    await compiled.dispose();
  });

  it("refuses a program whose input and parameter have one name", async () => {
    const spec = { frozen: { x: HostTensor.scalar(1) }, inputs: { x: { shape: [] } } };
    await expect(backend.compile((_ops, _params, { x }) => ({ x }), spec)).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
    });
  });
});
