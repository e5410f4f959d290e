import type { Backend } from "@sdxs/tensor";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { DAWN_FEATURES, requestGpuDevice, webgpuBackend } from "@sdxs/tensor/webgpu";
import { tfjsBackend } from "@sdxs/tensor/tfjs";

/** onnx: onnxruntime-node on the CPU. onnx-webgpu: its WebGPU provider. webgpu: our own kernels on Dawn. */
export const BACKEND_NAMES = ["onnx", "onnx-webgpu", "webgpu", "tfjs-wasm", "tfjs-cpu"] as const;
export type BackendName = (typeof BACKEND_NAMES)[number];

export function isBackendName(name: string): name is BackendName {
  return (BACKEND_NAMES as readonly string[]).includes(name);
}

/** Makes a backend and hands it to `use`, which must not care what its tensors are. */
export async function withBackend<R>(name: BackendName, use: <D>(backend: Backend<D>) => Promise<R>): Promise<R> {
  switch (name) {
    case "onnx":
      return use(onnxBackend({ ort: await import("onnxruntime-node") }));
    case "onnx-webgpu":
      return use(onnxBackend({ ort: await import("onnxruntime-node"), executionProviders: ["webgpu"] }));
    case "webgpu":
      return use(webgpuBackend({ device: await requestGpuDevice((await import("webgpu")).create([DAWN_FEATURES])) }));
    case "tfjs-wasm":
      await import("@tensorflow/tfjs-backend-wasm");
      return use(await tfjsBackend({ tf: await import("@tensorflow/tfjs"), backend: "wasm" }));
    case "tfjs-cpu":
      return use(await tfjsBackend({ tf: await import("@tensorflow/tfjs"), backend: "cpu" }));
  }
}
