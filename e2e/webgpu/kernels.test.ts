import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { create } from "webgpu";
import { mapTensors } from "@sdxs/tensor";
import { parseUNetConfig, unet, unetParameters } from "@sdxs/tiny-unet";
import { initialize, scope } from "@sdxs/tensor";
import { GraphBuilder } from "../../packages/tensor/src/graph/builder.js";
import { planOf } from "../../packages/tensor/src/webgpu/plan.js";
import { root } from "../workspace.js";

/** Dawn's device that computes nothing, but has every feature: it reads each kernel as a GPU's would. */
const gpu = create(["backend=null", "enable-dawn-features=allow_unsafe_apis"]);

test.each(["float32", "float16"] as const)(
  "Dawn accepts all kernels of the emoji student's U-Net in %s, matrix units included",
  async (precision) => {
    const adapter = await gpu.requestAdapter();
    const features = ["shader-f16", "subgroups", "chromium-experimental-subgroup-matrix"] as GPUFeatureName[];
    const device = await adapter!.requestDevice({ requiredFeatures: features });
    const config = parseUNetConfig(
      JSON.parse(await readFile(join(root, "recipes/emoji/student/unet/config.json"), "utf8")),
    );
    const builder = new GraphBuilder(undefined, Infinity);
    const weights = initialize(unetParameters(config), 0);
    const given = {
      sample: builder.input("sample", [1, 4, 16, 16], "float32"),
      timestep: builder.input("timestep", [1], "float32"),
      encoderHiddenStates: builder.input("text", [1, 20, config.cross_attention_dim], "float32"),
    };
    const params = mapTensors(weights, ({ data, shape }) => builder.constant(data, shape));
    const { sample } = unet(builder.ops, scope(builder.ops, params), config, given);
    const traits = {
      hasFloat16: true,
      hasMatrixUnits: true,
      maxThreads: 1024,
      maxBuffersPerKernel: 10,
      maxTensorBytes: Infinity,
    };
    const { steps, preparation } = planOf({ sample }, precision, traits);
    const codes = new Map([...preparation, ...steps].map(({ code, label }) => [code, label]));
    const refused: string[] = [];
    for (const [code, label] of codes) {
      const { messages } = await device.createShaderModule({ code }).getCompilationInfo();
      for (const { type, message } of messages) if (type === "error") refused.push(`${label}: ${message}`);
    }
    expect(refused).toEqual([]);
    expect(steps.filter(({ code }) => code.includes("subgroupMatrixMultiply")).length > 50).toBe(
      precision === "float16",
    );
    device.destroy();
  },
);
