/** One model in a worker of its own, so that the page never waits for it. */
import { createPipeline, fetchPipeline, toRgba, type Pipeline, type PictureStream } from "@sdxs/runtime";
import { chooseBackend, type BackendName } from "@sdxs/runtime/backends";
import type { FromWorker, ModelName, ToWorker } from "./messages.js";
import { models } from "./models.js";

let pipeline: Pipeline;
let steps: number;
/** The stream that takes requests, until it is stopped or fails. */
let pictures: PictureStream | undefined;
let stopping: AbortController | undefined;

addEventListener("message", ({ data }: MessageEvent<ToWorker>) => {
  switch (data.type) {
    case "open":
      open(data.model, data.backend).catch(fail);
      break;
    case "draw":
      draw(data.prompt, data.seed);
      break;
    case "stop":
      stop();
  }
});

async function open(model: ModelName, name: BackendName | undefined): Promise<void> {
  const { folder, ...sampling } = models[model];
  const { backend, ...chosen } = await chooseBackend({
    ort: () => import("onnxruntime-web/webgpu"),
    ...(name && { name }),
  });
  // The build puts workers into assets/, beside models/.
  const { components } = await fetchPipeline(new URL(`../${folder}`, self.location.href), {
    only: ["unet", "vae", "text_encoder", "tokenizer", "scheduler"],
    onProgress: ({ loaded, total }) => reply({ type: "progress", loaded, total }),
  });
  pipeline = createPipeline({ components, backend, ...sampling });
  steps = sampling.steps;
  await pipeline.generate("", { steps: 1 }); // compiles
  reply({ type: "ready", backend: chosen.name, reason: chosen.reason });
}

/** One step is soon done, so that it ends; of many, those for an old request are given up. */
function draw(prompt: string, seed: number): void {
  if (steps > 1) stop();
  pictures ??= begin();
  pictures.request(prompt, { seed, onStep: (step) => reply({ type: "step", step }) });
}

function stop(): void {
  stopping?.abort();
  pictures = undefined;
}

function begin(): PictureStream {
  stopping = new AbortController();
  const stream = pipeline.stream({ signal: stopping.signal });
  send(stream).catch((error: unknown) => {
    if (pictures === stream) pictures = undefined;
    fail(error);
  });
  return stream;
}

async function send(stream: PictureStream): Promise<void> {
  for await (const { images, times, prompts, options } of stream) {
    const [image] = toRgba(images);
    const ms = times.textEncoder + times.unet + times.decoder;
    reply({ type: "picture", prompt: prompts as string, seed: options.seed as number, image: image!, ms });
  }
}

function fail(error: unknown): void {
  const { code = "", message = String(error) } = error as { code?: string; message?: string };
  if (code !== "ABORTED") reply({ type: "failed", code, message });
}

function reply(message: FromWorker): void {
  postMessage(message);
}
