import * as tf from "@tensorflow/tfjs";
import * as node from "onnxruntime-node";
import { afterEach, describe, expect, it, vi } from "vitest";
import type { OnnxRuntime } from "@sdxs/tensor/onnx";
import { chooseBackend } from "./backends.js";
import { missingGpu } from "./node-gpu.js";

// Whatever this machine has.
vi.mock(import("./node-gpu.js"), () => ({ missingGpu: vi.fn<typeof missingGpu>() }));

/** onnxruntime-node in the part of another one, which has these providers; those of `broken` fail. */
function runtimeWith(providers: readonly string[] | undefined, broken: readonly string[] = []): OnnxRuntime {
  return {
    Tensor: node.Tensor,
    InferenceSession: {
      create: (model, options) => {
        const [provider = "cpu"] = (options as { executionProviders?: readonly string[] }).executionProviders ?? [];
        if (broken.includes(provider)) return Promise.reject(new Error(`${provider} is broken`));
        return node.InferenceSession.create(model, { ...options, executionProviders: ["cpu"] });
      },
    },
    ...(providers && { listSupportedBackends: () => providers.map((name) => ({ name })) }),
  };
}

const withAdapter = (adapter: unknown): void => {
  vi.stubGlobal("navigator", { gpu: { requestAdapter: () => Promise.resolve(adapter) } });
};
afterEach(() => {
  vi.unstubAllGlobals();
  vi.mocked(missingGpu).mockReset();
});

describe("chooseBackend", () => {
  it("takes a GPU in Node before the processor", async () => {
    const ort = runtimeWith(["cpu", "cuda", "webgpu"]);
    expect(await chooseBackend({ ort })).toMatchObject({ name: "node-gpu", reason: "CUDA by onnxruntime." });
  });

  it("says why it passes GPUs over", async () => {
    const { name, backend, reason } = await chooseBackend({
      ort: runtimeWith(["cpu", "cuda", "webgpu"], ["cuda", "webgpu"]),
    });
    expect(name).toBe("onnx");
    expect(backend.name).toBe("onnx-cpu");
    expect(reason).toMatch(/^the processor by onnxruntime\. No CUDA by onnxruntime: .*cuda is broken\. No WebGPU by/);
  });

  it("asks the machine before providers that would print what they miss", async () => {
    vi.mocked(missingGpu).mockImplementation((provider, allowsEmulated) => `${provider} ${allowsEmulated}.`);
    const ort = runtimeWith(["cpu", "cuda", "webgpu"]);
    const create = vi.spyOn(ort.InferenceSession, "create");
    const gpu = { requestAdapter: vi.fn<GPU["requestAdapter"]>() };
    const { reason } = await chooseBackend({ ort, gpu });
    expect(reason).toBe(
      "the processor by onnxruntime. No CUDA by onnxruntime: cuda false. No WebGPU: webgpu false. " +
        "No WebGPU by onnxruntime: webgpu false.",
    );
    const asked = create.mock.calls.flatMap(([, options]) => Object.entries(options ?? {}));
    expect(asked.filter(([option]) => option === "executionProviders")).toEqual([["executionProviders", ["cpu"]]]);
    expect(gpu.requestAdapter).not.toHaveBeenCalled();
    await expect(chooseBackend({ ort, name: "node-gpu" })).rejects.toMatchObject({
      message: expect.stringContaining("webgpu true."),
    });
  });

  it("takes WebGPU in browsers, unless there is none or it is emulated", async () => {
    const ort = runtimeWith(undefined);
    withAdapter({ info: {} });
    expect(await chooseBackend({ ort })).toMatchObject({ name: "webgpu", reason: "WebGPU by onnxruntime." });
    withAdapter({ info: { isFallbackAdapter: true } });
    expect(await chooseBackend({ ort })).toMatchObject({
      name: "onnx",
      reason: expect.stringMatching(/^WebAssembly by onnxruntime\. No WebGPU by onnxruntime: it is only emulated/),
    });
    expect(await chooseBackend({ ort, name: "webgpu" })).toMatchObject({ name: "webgpu" });
    withAdapter(null);
    expect((await chooseBackend({ ort })).reason).toContain("no graphics processor was found");
    vi.stubGlobal("navigator", {});
    expect((await chooseBackend({ ort })).reason).toContain("this browser has none");
  });

  it("writes kernels of its own for WebGPU that it is given, behind onnxruntime's CUDA", async () => {
    const reason = "No WebGPU: no graphics processor was found.";
    const gpu = { requestAdapter: () => Promise.resolve(null) };
    await expect(chooseBackend({ gpu })).rejects.toMatchObject({ message: expect.stringContaining(reason) });
    expect(await chooseBackend({ gpu, ort: runtimeWith(["cpu", "webgpu"]) })).toMatchObject({
      name: "node-gpu",
      reason: `WebGPU by onnxruntime. ${reason}`,
    });
    expect(await chooseBackend({ gpu, ort: runtimeWith(["cpu", "cuda"]) })).toMatchObject({
      reason: "CUDA by onnxruntime.",
    });
    const emulated = { requestAdapter: () => Promise.resolve({ info: { isFallbackAdapter: true } } as GPUAdapter) };
    await expect(chooseBackend({ gpu: emulated })).rejects.toMatchObject({ code: "BACKEND_FAILURE" });
  });

  it("takes tfjs where onnxruntime cannot be imported, or is not asked for", async () => {
    const missing = () => Promise.reject(new Error("Cannot find package"));
    const chosen = await chooseBackend({ ort: missing, tf: () => Promise.resolve(tf) });
    expect(chosen).toMatchObject({ name: "tfjs", reason: "cpu by tfjs. No onnxruntime: Cannot find package." });
    expect(await chooseBackend({ ort: node, tf, name: "tfjs" })).toMatchObject({ name: "tfjs" });
  });

  it("refuses what it cannot have, with all reasons", async () => {
    await expect(chooseBackend({})).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    const ort = runtimeWith(["cpu", "cuda"], ["cuda"]);
    await expect(chooseBackend({ ort, name: "node-gpu" })).rejects.toMatchObject({
      code: "BACKEND_FAILURE",
      message: expect.stringMatching(
        /no backend "node-gpu" runs here .*\n {2}No CUDA by onnxruntime: .*cuda is broken/,
      ),
    });
  });
});
