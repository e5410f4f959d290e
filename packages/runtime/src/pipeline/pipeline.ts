import { InvalidArgumentError, SdxsError } from "@sdxs/tensor";
import { PipelineDevice } from "./pipeline-device.js";
import { checkRequest, requestDefaults, type GenerateRequest } from "./pipeline-request.js";
import { pictureStream } from "./pipeline-stream.js";
import type { GeneratedImages, Pipeline, PipelineOptions } from "./pipeline-types.js";

/**
 * From prompts to pictures: text encoder, U-Net under a sampler, decoder, on any backend. From the embedding of the prompt
 * to the pixels everything stays on the device; each stage is compiled once per shape; embeddings of recent prompts are kept.
 *
 * Models of Stable Diffusion 1, 2 and XL, of SDXS-512, turbo and latent consistency models, with any number of ControlNets.
 *
 * @throws InvalidArgumentError, naming components that are missing; UnsupportedConfigError for components that do not fit
 * together, for kinds of models that are not supported (inpainting, XL's refiner), and for unsupported schedulers.
 *
 * @example
 * const { components } = await loadPipelineFolder("sdxs-512");
 * const pipeline = createPipeline({ components, backend: onnxBackend({ ort }) });
 * const { images } = await pipeline.generate("a red apple", { seed: 1 });
 */
export function createPipeline<D>(options: PipelineOptions<D>): Pipeline {
  const { backend } = options;
  const defaults = requestDefaults("createPipeline", options);
  if (options.int8 !== undefined && options.precision === "float16") {
    throw new InvalidArgumentError(
      "createPipeline: int8 and float16 exclude each other. Give one of int8 and precision.",
    );
  }
  let device: PipelineDevice<D> | undefined;
  let disposed = false;
  let last: Promise<unknown> = Promise.resolve();

  const drawOn = async (on: PipelineDevice<D>, request: GenerateRequest): Promise<GeneratedImages> => {
    const drawn = await on.draw(request);
    for (const warning of drawn.warnings) options.onWarning?.(warning);
    return { ...drawn, warnings: drawn.warnings.map(({ message }) => message) };
  };
  const draw = async (request: GenerateRequest): Promise<GeneratedImages> => {
    const newDevice = async (): Promise<PipelineDevice<D>> =>
      new PipelineDevice(typeof backend === "function" ? await backend() : backend, defaults.components, {
        int8: options.int8,
        precision: options.precision,
      });
    device ??= await newDevice();
    try {
      return await drawOn(device, request);
    } catch (error) {
      if ((error as Partial<SdxsError>).code !== "DEVICE_LOST" || typeof backend !== "function") throw error;
      await device.dispose().catch(() => undefined); // what goes with a lost device may fail
      device = undefined;
      device = await newDevice();
      return drawOn(device, request);
    }
  };
  const inTurn: Pipeline["generate"] = (prompts, given = {}) => {
    if (disposed) return Promise.reject(new SdxsError("DISPOSED", "generate: this pipeline was disposed of."));
    const result = last.then(() =>
      draw(checkRequest(defaults, typeof prompts === "string" ? [prompts] : prompts, given)),
    );
    last = result.catch(() => undefined);
    return result;
  };
  return {
    generate: inTurn,
    stream: ({ signal } = {}) => pictureStream(inTurn, signal),
    async dispose() {
      if (disposed) return;
      disposed = true;
      await last;
      await device?.dispose();
    },
  };
}
