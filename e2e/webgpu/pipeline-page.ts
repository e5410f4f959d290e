/** Runs in the browser's page: pipelines from the server, in the page and in a worker. */
import * as ort from "onnxruntime-web/webgpu";
import { createPipeline, fetchPipeline, toImageBitmaps, toPng, toRgba, workerPipeline } from "@sdxs/runtime";
import { chooseBackend, type BackendName } from "@sdxs/runtime/backends";

ort.env.wasm.wasmPaths = "/onnxruntime-web/";

/** The components of the server's pipeline. */
const only = ["unet", "vae", "text_encoder", "tokenizer", "scheduler"] as const;

/** What tests call, as `globalThis.page`. */
const page = {
  async draw(name?: BackendName, precision: "float32" | "float16" = "float32", own = false) {
    const { components } = await fetchPipeline("./pipeline", { only });
    const { backend, reason } = await chooseBackend({ ort, ...(name && { name }), ...(own && { gpu: navigator.gpu }) });
    const pipeline = createPipeline({ components, backend, precision });
    const { images } = await pipeline.generate("red", { seed: 1 });
    await pipeline.dispose();
    const [bitmap] = await toImageBitmaps(images);
    const [picture] = toRgba(images);
    const png = await createImageBitmap(new Blob([await toPng(picture!)], { type: "image/png" }));
    return { reason, pixels: [...images.data], sizes: [bitmap, png].map((image) => [image?.width, image?.height]) };
  },
  async drawInWorker() {
    const worker = new Worker("/worker.js", { type: "module" });
    const progress: number[] = [];
    const pipeline = workerPipeline(worker, ({ loaded, total }) => progress.push(loaded / total));
    const { images } = await pipeline.generate("red", { seed: 1 });
    await pipeline.dispose();
    worker.terminate();
    return { pixels: [...images.data], progress: progress.at(-1) };
  },
  /** The prompts of the pictures that a worker draws, where so many requests come at once. */
  async drawBurst(requests: number) {
    const worker = new Worker("/stream-worker.js", { type: "module" });
    const drawn: string[] = [];
    await new Promise((resolve) => worker.addEventListener("message", resolve, { once: true }));
    await new Promise<void>((resolve) => {
      worker.addEventListener("message", ({ data }: MessageEvent<string>) => {
        drawn.push(data);
        if (data === `prompt ${requests - 1}`) resolve();
      });
      for (let i = 0; i < requests; i++) worker.postMessage(`prompt ${i}`);
    });
    worker.terminate();
    return drawn;
  },
};
export type PipelinePage = typeof page;

Object.assign(globalThis, { page });
