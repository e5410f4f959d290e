import type { SchedulerConfig } from "@sdxs/diffusion";
import type { Backend, Calibration, CompileSpec, HostTensor, Signal } from "@sdxs/tensor";
import type { PipelineComponents } from "../checkpoints/components.js";
import type { OnWarning } from "../checkpoints/pipeline-warnings.js";
import type { PipelineLora } from "./pipeline-loras.js";
import type { TextualInversion } from "./textual-inversion.js";

/** Ranges in a pipeline's networks: those of the U-Net with its ControlNets, and of the decoder. Plain data, to be kept as JSON. */
export interface PipelineCalibration {
  readonly unet: Calibration;
  readonly decoder: Calibration;
}

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
  /** What the image should not show; has an effect with classifier-free guidance alone. Default: the empty prompt. */
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

/** What one request of a stream may say; the stream has the signal. */
export type StreamRequest = Omit<GenerateOptions, "signal">;

/** Pictures of one request. */
export interface StreamedImages extends GeneratedImages {
  readonly prompts: string | readonly string[];
  readonly options: StreamRequest;
}

/** Pictures of the newest requests, one after the other, for one loop. Leaving the loop ends it. */
export interface PictureStream extends AsyncIterableIterator<StreamedImages> {
  /** Asks for pictures in place of all that was asked for before and is not yet being drawn. */
  request(prompts: string | readonly string[], options?: StreamRequest): void;
  /** Lets the loop end once the last request is drawn. */
  close(): void;
}
