import { afterAll, describe, expect, test } from "vitest";
import { create } from "webgpu";
import { HostTensor, mapTensors, random, scope, specsOf, type Ops, type Program, type TensorMap } from "@sdxs/tensor";
import { fromHost, referenceOps, toHost } from "@sdxs/tensor/reference";
import { DAWN_FEATURES, requestGpuDevice, webgpuBackend } from "@sdxs/tensor/webgpu";
import { textEncoder, textEncoderParameters, parseTextEncoderConfig } from "@sdxs/runtime";
import { publishedUNets, unet, unetParameters } from "@sdxs/tiny-unet";
import { prepareDawn } from "./dawn.js";

prepareDawn();

const MIB = 2 ** 20;

/** It computes nothing, but looks at every call. Dawn needs it as long as its devices. */
const nothing = create(["backend=null"]);

describe("a device with WebGPU's default limits", async () => {
  const adapter = await nothing.requestAdapter();
  const device = await adapter!.requestDevice();
  const backend = webgpuBackend({ device });
  afterAll(() => device.destroy());

  test("is given bindings of 128 MiB at most", () => {
    const { maxBufferSize, maxStorageBufferBindingSize } = device.limits;
    expect([maxBufferSize, maxStorageBufferBindingSize]).toEqual([256 * MIB, 128 * MIB]);
  });

  // With one layer of their own: all others are like it.
  const encoders = {
    "Stable Diffusion 1.5": { hidden_size: 768, intermediate_size: 3072, num_attention_heads: 12 },
    "Stable Diffusion 2.1": { hidden_size: 1024, intermediate_size: 4096, num_attention_heads: 16, hidden_act: "gelu" },
    "Stable Diffusion XL": { hidden_size: 1280, intermediate_size: 5120, num_attention_heads: 20, hidden_act: "gelu" },
  };
  test.each(Object.entries(encoders))("runs the text encoder of %s, whose table is larger", async (_name, fields) => {
    const config = parseTextEncoderConfig({ ...fields, vocab_size: 49408, num_hidden_layers: 1 });
    const specs = textEncoderParameters(config);
    const table = specs["text_model.embeddings.token_embedding.weight"]!;
    expect(4 * table.shape[0]! * table.shape[1]!).toBeGreaterThan(128 * MIB);
    const encode: Program<"ids", "y"> = (ops, params, { ids }) => ({
      y: textEncoder(ops, scope(ops, params), config, ids).lastHiddenState,
    });
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST;
    const params = mapTensors(specs, ({ shape }) => {
      const size = 4 * shape.reduce((product, length) => product * length, 1);
      return { shape, dtype: "float32" as const, buffer: device.createBuffer({ size, usage }), offset: 0 };
    });
    const ids = new HostTensor([1, 77], new Int32Array(77));
    const compiled = await backend.compile(encode, { params: specs, inputs: specsOf({ ids }) });
    const { y } = await compiled.run(params, { ids });
    expect((await backend.download(y)).shape).toEqual([1, 77, config.hidden_size]); // no error was reported
    for (const { buffer } of Object.values(params)) buffer.destroy();
    await compiled.dispose();
  });

  test("compiles the U-Net of SDXS-512, and binds every weight of the published ones", async () => {
    for (const config of Object.values(publishedUNets)) {
      for (const { shape } of Object.values(unetParameters(config))) {
        expect(4 * shape.reduce((product, size) => product * size, 1)).toBeLessThanOrEqual(128 * MIB);
      }
    }
    const config = publishedUNets["sdxs-512"];
    const program: Program<"sample" | "timestep" | "text", "y"> = (ops, params, { sample, timestep, text }) => ({
      y: unet(ops, scope(ops, params), config, { sample, timestep, encoderHiddenStates: text }).sample,
    });
    const compiled = await backend.compile(program, {
      params: unetParameters(config),
      inputs: {
        sample: { shape: [1, 4, 64, 64] },
        timestep: { shape: [1] },
        text: { shape: [1, 77, config.cross_attention_dim] },
      },
    });
    await compiled.dispose();
  });
});

const gpu = create([DAWN_FEATURES]);

if ((await gpu.requestAdapter()) === null) {
  test.skip("large weights in Node (no Vulkan device: install libvulkan1 and chromium, or a GPU's driver)");
} else {
  const params = {
    table: random(1).normal([80, 24]), // in two parts, of 40 rows each
    weight: random(2).normal([50, 24]), // in two parts
  };
  const frozen = {
    constantTable: random(3).normal([90, 24]), // in three parts, of 42 rows, 42 and 6
    kernel: random(4).normal([15, 9, 3, 3]), // in two parts
    bias: random(5).normal([15]),
  };
  const inputs = {
    ids: new HostTensor([2, 2], Int32Array.of(0, 39, 40, 79)),
    constantIds: new HostTensor([4], Int32Array.of(0, 42, 43, 89)),
    image: random(6).normal([1, 9, 4, 4]),
  };
  const compute = <T>(ops: Ops<T>, given: TensorMap<T>): Record<"rows" | "convolved", T> => {
    const { table, weight, constantTable, kernel, bias, ids, constantIds, image } = given as Record<string, T>;
    const found = ops.add(
      ops.reshape(ops.gather(table!, ids!, 0), [4, 24]),
      ops.gather(constantTable!, constantIds!, 0),
    );
    return {
      rows: ops.matmul(found, weight!, { transposeB: true }),
      convolved: ops.relu(ops.conv2d(image!, kernel!, bias, { padding: 1 })),
    };
  };

  test("weights that are larger than a binding give what they give in one", async () => {
    const device = await requestGpuDevice(gpu);
    // No device has less than the default: the backend is told of less.
    const less: Readonly<Record<string, number>> = { maxStorageBufferBindingSize: 4096, maxBufferSize: 8192 };
    const limits = new Proxy(device.limits, {
      get: (own, name) => less[String(name)] ?? (Reflect.get(own, name, own) as unknown),
    });
    Object.defineProperty(device, "limits", { value: limits });
    const backend = webgpuBackend({ device });
    const bind = device.createBindGroup.bind(device);
    const sizes: number[] = [];
    device.createBindGroup = (descriptor) => {
      for (const { resource } of descriptor.entries) sizes.push((resource as GPUBufferBinding).size ?? 0);
      return bind(descriptor);
    };
    const program: Program<keyof typeof inputs, "rows" | "convolved"> = (ops, own, given) =>
      compute(ops, { ...own, ...given });
    const compiled = await backend.compile(program, { params: specsOf(params), frozen, inputs: specsOf(inputs) });
    const results = await compiled.run(compiled.upload(params), inputs);
    const expected = mapTensors(
      compute(referenceOps, mapTensors({ ...params, ...frozen, ...inputs }, fromHost)),
      toHost,
    );
    for (const [name, result] of Object.entries(results)) {
      const { data, shape } = await backend.download(result);
      const want = expected[name]!;
      expect(shape).toEqual(want.shape);
      want.data.forEach((value, i) => expect(data[i]).toBeCloseTo(value, 4));
    }
    expect(Math.max(...sizes)).toBeLessThanOrEqual(4096);
    const whole: Program<"x", "y"> = (ops, { table }, { x }) => ({ y: ops.sum(ops.mul(table!, x)) });
    await expect(
      backend.compile(whole, { params: specsOf(params), inputs: { x: { shape: [24] } } }),
    ).rejects.toMatchObject({ code: "BACKEND_FAILURE", message: expect.stringContaining("[80, 24]") });
    device.destroy();
  });
}
