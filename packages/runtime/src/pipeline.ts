import type { SchedulerConfig } from "@sdxs/diffusion";
import {
  InvalidArgumentError,
  SdxsError,
  type Backend,
  type CompileSpec,
  type HostTensor,
  type Signal,
} from "@sdxs/tensor";
import type { PipelineCalibration } from "./calibrate-pipeline.js";
import type { PipelineComponents } from "./open-pipeline.js";
import { PipelineDevice } from "./pipeline-device.js";
import type { PipelineLora } from "./pipeline-loras.js";
import { checkRequest, requestDefaults, type GenerateRequest } from "./pipeline-request.js";
import { pictureStream, type PictureStream } from "./pipeline-stream.js";
import type { TextualInversion } from "./textual-inversion.js";
import type { OnWarning } from "./pipeline-warnings.js";

/** What a text-to-image pipeline is made of; ControlNets if it has any, and Stable Diffusion XL's second text encoder. */
export type TextToImageComponents = Pick<
  PipelineComponents,
  "unet" | "vae" | "text_encoder" | "tokenizer" | "scheduler"
> &
  Partial<Pick<PipelineComponents, "controlnet" | "text_encoder_2" | "tokenizer_2" | "settings">>;

export interface PipelineOptions<D> {
  /** What `loadPipelineFolder` or `fetchPipeline` gives: all that `TextToImageComponents` has must be there. */
  readonly components: Partial<PipelineComponents>;
  /**
   * Or what makes one, as `() => onnxBackend({ ort })`: the pipeline then makes another where a GPU is lost, and repeats the
   * request once.
   */
  readonly backend: Backend<D> | (() => Backend<D> | Promise<Backend<D>>);
  /**
   * Of Stable Diffusion XL: whether guidance leads away from zeros where there is no `negativePrompt`, in place of the empty
   * prompt. Default: what the pipeline's model_index.json says ("force_zeros_for_empty_prompt"), or else true, as diffusers.
   */
  readonly forceZerosForEmptyPrompt?: boolean;
  /** U-Net, ControlNets and decoder in 8 bits, by what `calibratePipeline` found. Default: float32. */
  readonly int8?: PipelineCalibration;
  /**
   * In which networks compute, see `CompileSpec.precision` of `@sdxs/tensor`. "float16" halves the memory that they take and is
   * faster on GPUs that have it; processors gain nothing. Not together with `int8`. Default "float32".
   */
  readonly precision?: CompileSpec["precision"];
  /** Default of `GenerateOptions.scheduler`. */
  readonly scheduler?: GenerateOptions["scheduler"];
  /** Default of `GenerateOptions.steps`. Default: what the model was made for, see `samplingDefaults`. */
  readonly steps?: number;
  /** Default of `GenerateOptions.guidanceScale`. Default: what the model was made for, see `samplingDefaults`. */
  readonly guidanceScale?: number;
  /** Tokens that prompts may have, and their embeddings: see `readTextualInversion`. Default: none. */
  readonly embeddings?: readonly TextualInversion[];
  /** Called with each warning, of the components and of requests. Those of a request are also in `GeneratedImages.warnings`. */
  readonly onWarning?: OnWarning;
}

export interface GenerateOptions {
  /**
   * Decides the noise. Of one seed, image i of a batch depends on the seed and i alone; a list has a seed for each prompt, whose
   * image is the one that its seed gives alone. Default 0.
   */
  readonly seed?: number | string | readonly (number | string)[];
  /** Standard normal noise [images, latent channels, height / 8, width / 8] in place of a seed's. */
  readonly noise?: HostTensor;
  /**
   * Another sampler in place of the pipeline's: a class of diffusers, as "UniPCMultistepScheduler", its short name, as "unipc"
   * (`schedulerNames` of `@sdxs/diffusion` lists them), or a whole configuration. Under a name the pipeline's schedule and
   * fields stay, as with diffusers' `from_config`.
   */
  readonly scheduler?: string | SchedulerConfig;
  /** How much noise DDIM and TCD add at each step, from 0 to 1; other samplers refuse it. Default 0, as diffusers' pipelines; TCD's authors take 0.3. */
  readonly eta?: number;
  /**
   * Steps of the sampler that the scheduler's configuration names. With `image` the last steps x strength of them are done;
   * the pipeline's default then grows as far as one of them needs.
   */
  readonly steps?: number;
  /**
   * What to begin with in place of noise alone: [images or 1, 3, height, width], red first, in [-1, 1]. `readPicture`,
   * `fromImageSource` and `fromPng` make it of files. Of another size than the picture it is resized by `resizePicture`.
   */
  readonly image?: HostTensor;
  /** How much of `image` is drawn anew, above 0 and at most 1. Default 0.8, as diffusers. */
  readonly strength?: number;
  /**
   * Classifier-free guidance; the network then sees each sample twice. 1 or less: none, as in diffusers. A latent consistency
   * model takes it as an input instead, and sees each sample once.
   */
  readonly guidanceScale?: number;
  /** What to lead away from, with classifier-free guidance alone. Default: the empty prompt. */
  readonly negativePrompt?: string;
  /**
   * Pixels, multiples of 8 as a rule. Default: those of `image`, rounded down to such multiples as diffusers does, or else
   * what the U-Net was trained on.
   */
  readonly width?: number;
  readonly height?: number;
  /**
   * One for each ControlNet, in their order: [images or 1, 3, height, width], RGB from 0 to 1, and how strongly it guides
   * (default 1). Of another size than the picture it is resized by `resizePicture`.
   */
  readonly controls?: readonly { readonly image: HostTensor; readonly scale?: number }[];
  /**
   * Lets the ControlNets lead more than the prompt, as diffusers' `guess_mode`: with guidance they act on the prompt's half
   * alone, and less at high resolutions. Default: whether the first ControlNet has `global_pool_conditions`.
   */
  readonly guessMode?: boolean;
  /**
   * Added in this order, by `readLora` of `@sdxs/lora`. Weights that they change are uploaded where the last request had other
   * LoRAs or weights; without LoRAs the pipeline draws exactly as before. Default: none.
   */
  readonly loras?: readonly PipelineLora[];
  /** Stops before the next stage or step with an error of code ABORTED. */
  readonly signal?: Signal;
  /** Called after each call of the U-Net, counted from 1. Heun's method makes two for each step but the last. */
  readonly onStep?: (step: number, steps: number) => void;
}

/** Milliseconds of each stage. A stage that is compiled for a new shape counts that as well. */
export interface StageTimes {
  readonly textEncoder: number;
  /** With `GenerateOptions.image` alone. */
  readonly imageEncoder?: number;
  readonly unet: number;
  readonly decoder: number;
}

export interface GeneratedImages {
  /** [images, 3, height, width], red first, in [-1, 1]. See `toRgba`. */
  readonly images: HostTensor;
  readonly times: StageTimes;
  /** What a user should know: a prompt that lost its last words, a picture that is all black. */
  readonly warnings: readonly string[];
}

export interface Pipeline {
  /**
   * Draws one image for each prompt. Calls wait for each other.
   *
   * @throws SdxsError: INVALID_ARGUMENT and SHAPE_MISMATCH for options that do not fit, ABORTED, NON_FINITE with the stage
   * that made a NaN, DEVICE_LOST where a GPU is lost (see `PipelineOptions.backend`), DISPOSED after `dispose`.
   */
  generate(prompts: string | readonly string[], options?: GenerateOptions): Promise<GeneratedImages>;
  /**
   * Pictures for a user who changes their mind: of requests that come while a picture is drawn only the newest is drawn next,
   * so that a typing user is never more than one picture behind. `signal` ends it with an error of code ABORTED; a request
   * that fails ends it with its error.
   *
   * @example
   * const pictures = pipeline.stream();
   * input.oninput = () => pictures.request(input.value, { seed: 1 });
   * for await (const { images } of pictures) show(images);
   */
  stream(options?: { readonly signal?: Signal }): PictureStream;
  /** Frees all that is on the device, once calls under way have ended. Other pipelines stay. */
  dispose(): Promise<void>;
}

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
