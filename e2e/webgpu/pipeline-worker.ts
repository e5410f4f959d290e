/** Runs in a worker of the browser's page. */
import * as ort from "onnxruntime-web/wasm";
import { createPipeline, fetchPipeline, servePipeline } from "@sdxs/runtime";
import { onnxBackend } from "@sdxs/tensor/onnx";

ort.env.wasm.wasmPaths = "/onnxruntime-web/";

servePipeline(async (onProgress) => {
  const { components } = await fetchPipeline(new URL("/pipeline", self.location.href), {
    only: ["unet", "vae", "text_encoder", "tokenizer", "scheduler"],
    onProgress,
  });
  return createPipeline({ components, backend: () => onnxBackend({ ort, executionProviders: ["wasm"] }) });
});
