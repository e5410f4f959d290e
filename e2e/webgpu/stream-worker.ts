/** Runs in a worker of the browser's page: draws the newest of the prompts that it is sent, by WebAssembly, as the demo does. */
import * as ort from "onnxruntime-web/wasm";
import { createPipeline, fetchPipeline } from "@sdxs/runtime";
import { onnxBackend } from "@sdxs/tensor/onnx";

ort.env.wasm.wasmPaths = "/onnxruntime-web/";

const { components } = await fetchPipeline(new URL("/pipeline", self.location.href), {
  only: ["unet", "vae", "text_encoder", "tokenizer", "scheduler"],
});
const pipeline = createPipeline({ components, backend: () => onnxBackend({ ort, executionProviders: ["wasm"] }) });
await pipeline.generate("red"); // compiles

const pictures = pipeline.stream();
self.addEventListener("message", ({ data }: MessageEvent<string>) => pictures.request(data));
self.postMessage(undefined);
for await (const { prompts } of pictures) self.postMessage(prompts);
