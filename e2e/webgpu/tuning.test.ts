import { describe, expect, test } from "vitest";
import { create } from "webgpu";
import { random } from "@sdxs/tensor";
import { requestGpuDevice, webgpuBackend } from "@sdxs/tensor/webgpu";
import { GraphBuilder } from "../../packages/tensor/src/graph/builder.js";
import { fuseProgram, gemmsOf } from "../../packages/tensor/src/webgpu/compile.js";
import { traitsOf } from "../../packages/tensor/src/webgpu/device.js";
import { estimatedTiling } from "../../packages/tensor/src/webgpu/kernels/tile-choice.js";
import { GpuMemory } from "../../packages/tensor/src/webgpu/memory.js";
import { Pipelines } from "../../packages/tensor/src/webgpu/pipelines.js";
import { GpuKernelTimer } from "../../packages/tensor/src/webgpu/tuning/gpu-kernel-timer.js";
import { prepareDawn } from "./dawn.js";

prepareDawn();
const gpu = create([]);
const adapter = await gpu.requestAdapter();

describe.skipIf(adapter === null)("tiles", () => {
  test.each(["timestamps", "the clock"])("are timed by %s", async (by) => {
    const own = (await gpu.requestAdapter())!;
    const device = await own.requestDevice({ requiredFeatures: by === "timestamps" ? ["timestamp-query"] : [] });
    const builder = new GraphBuilder(undefined, Infinity);
    const weight = builder.constant(random(1).normal([2048, 32]).data, [2048, 32]);
    const y = builder.ops.matmul(builder.input("x", [32, 2048], "float32"), weight);
    const fused = fuseProgram({ y }, "float32", traitsOf(device));
    const [gemm] = gemmsOf(fused);
    const memory = new GpuMemory(device);
    const timer = new GpuKernelTimer(memory, new Pipelines(device), fused.around.storage);
    const kernels = gemm!.kernels(estimatedTiling(gemm!.problem));
    expect(kernels).toHaveLength(2); // split-K and its sum
    const microseconds = await timer.time(kernels);
    expect(microseconds).toBeGreaterThan(0);
    expect(microseconds).toBeLessThan(Infinity);
    device.destroy();
  });

  test("are not timed on a software renderer", async ({ skip }) => {
    if (!adapter!.info.isFallbackAdapter) skip("this adapter is a GPU");
    const device = await requestGpuDevice(gpu);
    device.createQuerySet = () => expect.fail("a tile is timed");
    const backend = webgpuBackend({ device });
    const compiled = await backend.compile((ops, _params, { x }) => ({ y: ops.matmul(x, x) }), {
      inputs: { x: { shape: [64, 64] } },
    });
    await compiled.dispose();
    device.destroy();
  });
});
