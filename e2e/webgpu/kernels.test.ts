import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { create } from "webgpu";
import { initialize, mapTensors, random, scope, type ParameterSpec, type Scope } from "@sdxs/tensor";
import { parseUNetConfig, unet, unetParameters } from "@sdxs/tiny-unet";
import { autoencoderTinyPresets, decodeTiny, tinyDecoderParameters } from "@sdxs/tiny-vae";
import { GraphBuilder } from "../../packages/tensor/src/graph/builder.js";
import type { Node } from "../../packages/tensor/src/graph/node.js";
import { compilePlan, fuseProgram, gemmsOf } from "../../packages/tensor/src/webgpu/compile.js";
import { tilingsFor } from "../../packages/tensor/src/webgpu/kernels/tile-choice.js";
import { root } from "../workspace.js";

/** Dawn's device that computes nothing, but has every feature: it reads each kernel as a GPU's would. */
const gpu = create(["backend=null", "enable-dawn-features=allow_unsafe_apis"]);

const traits = {
  hasFloat16: true,
  hasSubgroupMatrices: true,
  maxThreads: 1024,
  maxBuffersPerKernel: 10,
  maxTensorBytes: Infinity,
  maxBufferBytes: Infinity,
};

type Network = (builder: GraphBuilder) => Promise<Node>;

const networks: Readonly<Record<string, Network>> = {
  async "the emoji student's U-Net"(builder) {
    const config = parseUNetConfig(
      JSON.parse(await readFile(join(root, "recipes/emoji/student/unet/config.json"), "utf8")),
    );
    const given = {
      sample: builder.input("sample", [1, 4, 16, 16], "float32"),
      timestep: builder.input("timestep", [1], "float32"),
      encoderHiddenStates: builder.input("text", [1, 20, config.cross_attention_dim], "float32"),
    };
    return unet(builder.ops, constants(builder, unetParameters(config)), config, given).sample;
  },
  // Large tiles, few columns, enlarged images.
  async "the paper's decoder at 512 x 512"(builder) {
    const config = autoencoderTinyPresets.taesd;
    const latents = builder.input("latents", [1, 4, 64, 64], "float32");
    return decodeTiny(builder.ops, constants(builder, tinyDecoderParameters(config)), config, latents);
  },
};

const constants = (builder: GraphBuilder, specs: Readonly<Record<string, ParameterSpec>>): Scope<Node> =>
  scope(
    builder.ops,
    mapTensors(initialize(specs, 0), ({ data, shape }) => builder.constant(data, shape)),
  );

test.each(
  Object.entries(networks).flatMap(([name, network]) =>
    (["float32", "float16"] as const).map((precision) => ({ name, network, precision })),
  ),
)("Dawn accepts all kernels of $name in $precision, subgroup matrices included", async ({ network, precision }) => {
  const adapter = await gpu.requestAdapter();
  const features = ["shader-f16", "subgroups", "chromium-experimental-subgroup-matrix"] as GPUFeatureName[];
  const device = await adapter!.requestDevice({ requiredFeatures: features });
  const result = await network(new GraphBuilder(undefined, Infinity));
  const { steps, preparation } = compilePlan({ result }, precision, traits);
  const codes = new Map([...preparation, ...steps].map(({ code, label }) => [code, label]));
  const refused: string[] = [];
  for (const [code, label] of codes) {
    const { messages } = await device.createShaderModule({ code }).getCompilationInfo();
    for (const { type, message } of messages) if (type === "error") refused.push(`${label}: ${message}`);
  }
  expect(refused).toEqual([]);
  const onUnits = steps.filter(({ code }) => code.includes("subgroupMatrixMultiply"));
  expect(onUnits.length > 30).toBe(precision === "float16");
  device.destroy();
});

test.each(["subgroup matrices", "registers"])("Dawn accepts every tiling with %s", async (units) => {
  const adapter = await gpu.requestAdapter();
  const features = ["shader-f16", "subgroups", "chromium-experimental-subgroup-matrix"] as GPUFeatureName[];
  const device = await adapter!.requestDevice({ requiredFeatures: features });
  const builder = new GraphBuilder(undefined, Infinity);
  const { ops } = builder;
  const weight = (...shape: number[]): Node => builder.constant(random(1).normal(shape).data, shape);
  const image = ops.conv2d(builder.input("image", [1, 3, 32, 32], "float32"), weight(64, 3, 3, 3), weight(64));
  const y = ops.conv2d(ops.relu(image), weight(3, 64, 3, 3), undefined, { stride: 2 });
  const rows = ops.matmul(
    ops.relu(ops.matmul(builder.input("x", [64, 64], "float32"), weight(64, 64))),
    weight(64, 64),
  );
  const own = { ...traits, hasSubgroupMatrices: units === "subgroup matrices" };
  const refused: string[] = [];
  const tiles = new Set<string>();
  for (const { problem, kernels } of gemmsOf(fuseProgram({ y, rows }, "float16", own))) {
    for (const tiling of tilingsFor(problem)) {
      tiles.add(tiling.tile.name);
      for (const { code, label } of kernels(tiling)) {
        const { messages } = await device.createShaderModule({ code }).getCompilationInfo();
        for (const { type, message } of messages) if (type === "error") refused.push(`${label}: ${message}`);
      }
    }
  }
  expect(refused).toEqual([]);
  expect([...tiles].sort()).toEqual(
    own.hasSubgroupMatrices ? ["large", "narrow", "small"] : ["large registers", "registers"],
  );
  device.destroy();
});
