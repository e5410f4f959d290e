import { existsSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { create, globals } from "webgpu";
import {
  groupNorm,
  linear,
  mapTensors,
  random,
  silu,
  specsOf,
  type Ops,
  type Program,
  type TensorMap,
} from "@sdxs/tensor";
import { fromHost, referenceOps, toHost } from "@sdxs/tensor/reference";
import { DAWN_FEATURES, requestGpuDevice, webgpuBackend } from "@sdxs/tensor/webgpu";
import { root } from "../workspace.js";

// SwiftShader has no float16. Mesa's lavapipe has, but takes seconds to compile a kernel: one of each kind.
const driver = process.env["SDXS_LAVAPIPE"] ?? join(root, "tmp/lavapipe/lvp_icd.json");

if (!existsSync(driver)) {
  const reason = "no lavapipe: on Debian, .ci/lavapipe tmp/lavapipe unpacks it";
  console.warn(`Nothing is tested in float16 on WebGPU: ${reason}.`);
  test.skip(`float16 on lavapipe (${reason})`);
} else {
  process.env["VK_DRIVER_FILES"] = process.env["VK_ICD_FILENAMES"] = driver;
  Object.assign(globalThis, globals);
  const gpu = create([DAWN_FEATURES]);

  test("a GEMM, a group norm and an NHWC convolution in float16 give what double precision gives, within 3e-3", async () => {
    const frozen = {
      mix: random(1).normal([16, 8]),
      scale: random(2).normal([16]),
      offset: random(3).normal([16]),
      filters: random(4).normal([12, 16, 3, 3]),
      bias: random(5).normal([12]),
    };
    const inputs = { tokens: random(6).normal([1, 64, 8]) };
    const compute = <T>(ops: Ops<T>, { tokens, mix, scale, offset, filters, bias }: TensorMap<T>): T => {
      const rows = linear(ops, tokens!, mix!, undefined);
      const image = ops.reshape(ops.transpose(rows, [0, 2, 1]), [1, 16, 8, 8]);
      const normalized = silu(ops, groupNorm(ops, image, 4, scale!, offset!, 1e-5));
      return ops.conv2d(normalized, filters!, bias, { padding: 1 });
    };
    const program: Program<"tokens", "y"> = (ops, own, given) => ({ y: compute(ops, { ...own, ...given }) });

    const device = await requestGpuDevice(gpu);
    const shaders: string[] = [];
    const createShaderModule = device.createShaderModule.bind(device);
    device.createShaderModule = (descriptor) => {
      shaders.push(descriptor.code);
      return createShaderModule(descriptor);
    };
    const backend = webgpuBackend({ device });
    const compiled = await backend.compile(program, { precision: "float16", frozen, inputs: specsOf(inputs) });
    const { y } = await compiled.run({}, inputs);
    const { data, shape } = await backend.download(y);
    const expected = toHost(compute(referenceOps, mapTensors({ ...frozen, ...inputs }, fromHost)));
    expect(shape).toEqual(expected.shape);
    const scale = Math.max(...expected.data.map(Math.abs));
    const error = Math.max(...expected.data.map((value, i) => Math.abs(data[i]! - value))) / scale;
    expect(error).toBeLessThan(3e-3);
    expect(error).toBeGreaterThan(1e-6); // float32 was not computed instead
    const halves = shaders.filter((code) => code.includes("f16"));
    expect(halves.some((code) => code.includes("array<vec4<f16>>"))).toBe(true);
    await compiled.dispose();
    device.destroy();
  });
}
