import { readFile } from "node:fs/promises";
import { join } from "node:path";
import * as tf from "@tensorflow/tfjs";
import * as ort from "onnxruntime-node";
import { afterAll, describe, expect, inject, test } from "vitest";
import { create } from "webgpu";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { tfjsBackend } from "@sdxs/tensor/tfjs";
import { DAWN_FEATURES, requestGpuDevice, webgpuBackend } from "@sdxs/tensor/webgpu";
import { root } from "../workspace.js";
import { prepareDawn } from "./dawn.js";
import { essential, suite, type BackendUnderTest } from "./suite.js";

// What a browser has: tfjs's WebGPU backend looks for it when it is imported.
prepareDawn();
const navigatorBefore = Object.getOwnPropertyDescriptor(globalThis, "navigator");
Object.defineProperty(globalThis, "navigator", { value: { gpu: create([DAWN_FEATURES]) }, configurable: true });
afterAll(() => {
  // Node does not exit while there is a `gpu`.
  Object.defineProperty(globalThis, "navigator", navigatorBefore ?? { value: undefined });
});

let device: GPUDevice;

const backends: Readonly<Record<string, BackendUnderTest>> = {
  "tfjs-webgpu on Dawn": {
    async start() {
      await import("@tensorflow/tfjs-backend-webgpu");
      return tfjsBackend({ tf, backend: "webgpu" });
    },
    device: async () => (tf.backend() as unknown as { readonly device: GPUDevice }).device,
    isLibrarys: true,
  },
  "webgpu on Dawn": {
    start: async () => webgpuBackend({ device: (device = await requestGpuDevice(navigator.gpu)) }),
    device: async () => device,
  },
  "onnx-webgpu": { start: async () => onnxBackend({ ort, executionProviders: ["webgpu"] }), isLibrarys: true },
};

const readFixture = async (path: string) =>
  new Uint8Array(await readFile(join(root, "packages/tiny-unet/fixtures", path)));

if ((await navigator.gpu.requestAdapter()) === null) {
  const reason = "no Vulkan device: install libvulkan1 and chromium, or a GPU's driver";
  console.warn(`Nothing is tested on WebGPU in Node: ${reason}.`);
  test.skip(`in Node (${reason})`);
} else {
  for (const [name, backend] of Object.entries(backends)) {
    const { names, run } = suite(readFixture, backend);
    // Chromium has the same kernels compute a whole U-Net, which takes them half a minute.
    const chosen = inject("complete") ? names : essential(names).filter((one) => !one.startsWith("a U-Net"));
    describe(`${name} in Node`, () => {
      test.each(chosen)("%s", async (one) => {
        expect(await run(one)).toMatchObject({ ok: true, message: "" });
      });
    });
  }
}
