/** One model in a worker of its own, so that the page never waits for it. */
import { readLora, type LoadedLoras } from "@sdxs/lora";
import {
  createPipeline,
  fetchModel,
  fetchPipeline,
  toRgba,
  type Pipeline,
  type PictureStream,
  type StreamRequest,
} from "@sdxs/runtime";
import { chooseBackend, type BackendName } from "@sdxs/runtime/backends";
import { HostTensor, readSafetensors, type HostParams } from "@sdxs/tensor";
import type { FromWorker, ModelName, Request, Sketch, StyleName, ToWorker } from "./messages.js";
import { extras, models } from "./models.js";

let pipeline: Pipeline;
let steps: number;
/** The stream that takes requests, until it is stopped or fails. */
let pictures: PictureStream | undefined;
let stopping: AbortController | undefined;
/** Of the student. */
let loras: Readonly<Record<StyleName, LoadedLoras<"unet">["loras"]>> | undefined;
/** What the streams' requests were made of. */
const requests = new WeakMap<StreamRequest, Request>();

addEventListener("message", ({ data }: MessageEvent<ToWorker>) => {
  switch (data.type) {
    case "open":
      open(data.model, data.backend).catch(fail);
      break;
    case "draw":
      draw(data.request);
      break;
    case "stop":
      stop();
  }
});

async function open(model: ModelName, name: BackendName | undefined): Promise<void> {
  const { folder, ...sampling } = models[model];
  const { backend, ...chosen } = await chooseBackend({
    ort: () => import("onnxruntime-web/webgpu"),
    ...("gpu" in navigator && { gpu: navigator.gpu }),
    ...(name && { name }),
  });
  // The build puts workers into assets/, beside models/.
  const { components } = await fetchPipeline(addressOf(folder), {
    only: ["unet", "vae", "text_encoder", "tokenizer", "scheduler"],
    onProgress: ({ loaded, total }) => reply({ type: "progress", loaded, total }),
  });
  const added = model === "student" && (await openExtras(components.unet.params));
  pipeline = createPipeline({ components: { ...components, ...added }, backend, ...sampling });
  steps = sampling.steps;
  await pipeline.generate("", { steps: 1 }); // compiles
  reply({ type: "ready", backend: chosen.name, reason: chosen.reason });
}

const addressOf = (path: string): URL => new URL(`../${path}`, self.location.href);

/** The student's ControlNet; and its LoRAs, which requests name. */
async function openExtras(unet: HostParams) {
  const controlNet = await fetchModel(addressOf(extras.controlNet), { className: "ControlNetModel" });
  const read = async (path: string) => {
    const response = await fetch(addressOf(path));
    if (!response.ok) throw new Error(`${response.url} could not be fetched (status ${response.status}).`);
    return readLora(readSafetensors(new Uint8Array(await response.arrayBuffer())), { unet }).loras;
  };
  loras = { "3d": await read(extras.loras["3d"]), line: await read(extras.loras.line) };
  return { controlnet: [controlNet] };
}

/** One step is soon done, so that it ends; of many, those for an old request are given up. */
function draw(request: Request): void {
  if (steps > 1) stop();
  pictures ??= begin();
  const { seed, sketch, style } = request;
  const options: StreamRequest = {
    seed,
    ...(sketch && { controls: [{ image: conditionOf(sketch), scale: sketch.weight }] }),
    ...(style && loras && { loras: [loras[style]] }),
    onStep: (step) => reply({ type: "step", step }),
  };
  requests.set(options, request);
  pictures.request(request.prompt, options);
}

/** Lines as the ControlNet is given them: [1, 3, 64, 64], 1 on them and 0 elsewhere. */
function conditionOf({ pixels }: Sketch): HostTensor {
  const size = Math.sqrt(pixels.length);
  const condition = HostTensor.filled([1, 3, size, size], 0);
  for (let channel = 0; channel < 3; channel++) condition.data.set(pixels, channel * pixels.length);
  return condition;
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
  for await (const { images, times, options } of stream) {
    const [image] = toRgba(images);
    const ms = times.textEncoder + times.unet + times.decoder;
    reply({ type: "picture", ...requests.get(options)!, image: image!, ms });
  }
}

function fail(error: unknown): void {
  const { code = "", message = String(error) } = error as { code?: string; message?: string };
  if (code !== "ABORTED") reply({ type: "failed", code, message });
}

function reply(message: FromWorker): void {
  postMessage(message);
}
