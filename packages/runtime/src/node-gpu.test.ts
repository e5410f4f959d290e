import { describe, expect, it } from "vitest";
import { missingGpu, type Machine } from "./node-gpu.js";

const machine = (paths: readonly string[], changes: Partial<Machine> = {}): Machine => ({
  platform: "linux",
  env: { HOME: "/home/me" },
  exists: (path) => paths.includes(path),
  list: (folder) => paths.filter((path) => path.startsWith(`${folder}/`)).map((path) => path.slice(folder.length + 1)),
  mapped: () => "7f00-7f01 r-xp 00000000 00:00 1   /a b/onnxruntime-node/bin/libonnxruntime.so.1\n",
  ...changes,
});
const cuda = "/a b/onnxruntime-node/bin/libonnxruntime_providers_cuda.so";
const driver = "/usr/share/vulkan/icd.d/radeon_icd.x86_64.json";

describe("missingGpu", () => {
  it("knows CUDA's driver and onnxruntime-node's files for it", () => {
    expect(missingGpu("cuda", true, machine([cuda]))).toBe("no NVIDIA driver was found.");
    expect(missingGpu("cuda", false, machine(["/dev/nvidiactl"]))).toMatch(/installed without its files for CUDA/);
    expect(missingGpu("cuda", false, machine(["/dev/nvidiactl", cuda]))).toBeUndefined();
    expect(missingGpu("cuda", false, machine(["/dev/dxg"], { mapped: () => "" }))).toBeUndefined();
  });

  it("knows Vulkan's drivers and the machine's GPUs", () => {
    const gpu = "/dev/dri/renderD128";
    expect(missingGpu("webgpu", true, machine([gpu]))).toBe("no Vulkan driver is installed.");
    expect(missingGpu("webgpu", false, machine([driver, "/dev/dri/card0"]))).toBe("no graphics processor was found.");
    expect(missingGpu("webgpu", true, machine([driver]))).toBeUndefined();
    expect(missingGpu("webgpu", false, machine([driver, gpu]))).toBeUndefined();
    const named = { env: { VK_DRIVER_FILES: "/a/driver.json" } };
    expect(missingGpu("webgpu", true, machine([], named))).toBeUndefined();
    const own = "/home/me/.local/share/vulkan/icd.d/own.json";
    expect(missingGpu("webgpu", false, machine([own, "/dev/nvidiactl"]))).toBeUndefined();
  });

  it("says nothing of other systems and other providers", () => {
    expect(missingGpu("webgpu", false, machine([], { platform: "darwin" }))).toBeUndefined();
    expect(missingGpu("cpu", false, machine([]))).toBeUndefined();
  });
});
