/** Runs in the browser's page, where chromium.ts puts it. */
import * as tf from "@tensorflow/tfjs";
import "@tensorflow/tfjs-backend-webgpu";
import * as ortWasm from "onnxruntime-web/wasm";
import * as ortWebgpu from "onnxruntime-web/webgpu";
import type { ConformanceResult } from "@sdxs/tensor/conformance";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { tfjsBackend } from "@sdxs/tensor/tfjs";
import { requestGpuDevice, webgpuBackend } from "@sdxs/tensor/webgpu";
import { suite, type Suite } from "./suite.js";

// The server gives onnxruntime-web's own folder under this name.
for (const { env } of [ortWasm, ortWebgpu]) env.wasm.wasmPaths = "/onnxruntime-web/";

async function readFixture(path: string): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await (await fetch(`/fixtures/${path}`)).arrayBuffer());
}

let device: GPUDevice;

const suites: Readonly<Record<string, Suite>> = {
  "tfjs-webgpu": suite(readFixture, {
    start: () => tfjsBackend({ tf, backend: "webgpu" }),
    device: async () => (tf.backend() as unknown as { readonly device: GPUDevice }).device,
    isLibrarys: true,
  }),
  webgpu: suite(readFixture, {
    start: async () => webgpuBackend({ device: (device = await requestGpuDevice(navigator.gpu)) }),
    device: async () => device,
  }),
  "onnx-webgpu": suite(readFixture, {
    start: async () => onnxBackend({ ort: ortWebgpu, executionProviders: ["webgpu"] }),
    device: () => ortWebgpu.env.webgpu.device,
    tensors: ortWebgpu.Tensor,
    isLibrarys: true,
  }),
  "onnx-wasm": suite(readFixture, {
    start: async () => onnxBackend({ ort: ortWasm, executionProviders: ["wasm"] }),
  }),
};

/** What tests call, as `globalThis.page`. */
const page = {
  names: (backend: string): readonly string[] => suites[backend]?.names ?? [],
  run(backend: string, name: string): Promise<ConformanceResult> {
    const found = suites[backend];
    if (!found) throw new Error(`There is no backend "${backend}".`);
    return found.run(name);
  },
};
export type TestPage = typeof page;

Object.assign(globalThis, { page });
