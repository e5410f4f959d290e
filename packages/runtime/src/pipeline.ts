import { combineHost } from "@sdxs/diffusion";
import { HostTensor, SdxsError, UnsupportedConfigError, specsOf, type Backend, type TensorSpec } from "@sdxs/tensor";
import type { PipelineComponents } from "./open-pipeline.js";
import { decoderProgram, denoiserWeights, factorsOf, stepProgram, type StepInput } from "./pipeline-programs.js";
import { checkRequest } from "./pipeline-request.js";
import { pipelineStage } from "./pipeline-stage.js";
import { pictureStream, type PictureStream } from "./pipeline-stream.js";
import { PromptEncoder } from "./prompt-embeddings.js";

/** What a text-to-image pipeline is made of; ControlNets if it has any. */
export type TextToImageComponents = Pick<
  PipelineComponents,
  "unet" | "vae" | "text_encoder" | "tokenizer" | "scheduler"
> &
  Partial<Pick<PipelineComponents, "controlnet">>;

export interface PipelineOptions<D> {
  /** What `loadPipelineFolder` gives. */
  readonly components: TextToImageComponents;
  readonly backend: Backend<D>;
  /** Default of `GenerateOptions.steps`. Default 1. */
  readonly steps?: number;
  /** Default of `GenerateOptions.guidanceScale`. Default 1: none, as one-step models need. */
  readonly guidanceScale?: number;
}

export interface GenerateOptions {
  /** Decides the noise. Image i of a batch depends on the seed and i alone. Default 0. */
  readonly seed?: number | string;
  /** Standard normal noise [images, latent channels, height / 8, width / 8] in place of a seed's. */
  readonly noise?: HostTensor;
  /** Steps of the sampler that the scheduler's configuration names. */
  readonly steps?: number;
  /** Classifier-free guidance; the network then sees each sample twice. 1: none. */
  readonly guidanceScale?: number;
  /** What to lead away from, with guidance alone. Default: the empty prompt. */
  readonly negativePrompt?: string;
  /** Pixels, multiples of 8 as a rule. Default: what the U-Net was trained on. */
  readonly width?: number;
  readonly height?: number;
  /**
   * One for each ControlNet, in their order: [images or 1, 3, height, width], RGB from 0 to 1, and how strongly it guides
   * (default 1).
   */
  readonly controls?: readonly { readonly image: HostTensor; readonly scale?: number }[];
  /** Stops before the next stage or step with an error of code ABORTED. */
  readonly signal?: AbortSignal;
  /** Called after each step, counted from 1. */
  readonly onStep?: (step: number, steps: number) => void;
}

/** Milliseconds of each stage. A stage that is compiled for a new shape counts that as well. */
export interface StageTimes {
  readonly textEncoder: number;
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
   * that made a NaN, DISPOSED after `dispose`.
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
  stream(options?: { readonly signal?: AbortSignal }): PictureStream;
  /** Frees all that is on the device, once calls under way have ended. Other pipelines stay. */
  dispose(): Promise<void>;
}

/**
 * From prompts to pictures: text encoder, U-Net under a sampler, decoder, on any backend. From the embedding of the prompt
 * to the pixels everything stays on the device; each stage is compiled once per shape; embeddings of recent prompts are kept.
 *
 * Models of Stable Diffusion 1 and 2 and of SDXS-512, with any number of ControlNets. Throws `UnsupportedConfigError` for
 * Stable Diffusion XL's U-Net.
 *
 * @example
 * const { components } = await loadPipelineFolder("sdxs-512");
 * const pipeline = createPipeline({ components, backend: onnxBackend({ ort }) });
 * const { images } = await pipeline.generate("a red apple", { seed: 1 });
 */
export function createPipeline<D>(options: PipelineOptions<D>): Pipeline {
  const { components, backend } = options;
  const { config } = components.unet;
  if (config.addition_embed_type !== null) {
    throw new UnsupportedConfigError(
      `createPipeline: the U-Net's "addition_embed_type" is ${JSON.stringify(config.addition_embed_type)}, which needs ` +
        `conditions besides the prompt. Pipelines of Stable Diffusion 1, 2 and SDXS-512 are supported.`,
    );
  }
  const text = new PromptEncoder(backend, components);
  const stages = {
    step: pipelineStage(backend, denoiserWeights(components), stepProgram(components)),
    decoder: pipelineStage(backend, components.vae.params, decoderProgram(components)),
  };
  let disposed = false;
  let last: Promise<unknown> = Promise.resolve();

  const generate = async (prompts: readonly string[], given: GenerateOptions): Promise<GeneratedImages> => {
    const { signal, onStep } = given;
    const { plan, guidanceScale, noise, noiseOf, controls } = checkRequest(options, prompts, given);
    const throwIfAborted = (): void => {
      if (signal?.aborted) throw new SdxsError("ABORTED", "generate: aborted.", { cause: signal.reason });
    };
    throwIfAborted();
    const clock = stopwatch();
    const isGuided = guidanceScale !== 1;
    const negative = prompts.map(() => given.negativePrompt ?? "");
    const seen = isGuided ? [...negative, ...prompts] : prompts;
    const { context, cut } = await text.embed(seen);
    const textMs = clock();

    const same = {
      ...(isGuided && { guidanceScale: HostTensor.scalar(guidanceScale) }),
      ...Object.fromEntries(
        controls.flatMap(({ image, scale = 1 }, index) => [
          [`condition.${index}`, image],
          [`strength.${index}`, HostTensor.filled([1], scale)],
        ]),
      ),
    } as Partial<Record<StepInput, HostTensor>> as Readonly<Record<StepInput, HostTensor>>;
    const latents: TensorSpec = { shape: noise.shape };
    const owned: D[] = []; // what the sampler has on the device: its sample and its last prediction
    const release = (): void => {
      for (const tensor of owned.splice(0)) backend.dispose(tensor);
    };
    try {
      let state: Readonly<Record<"sample" | "prediction", D | HostTensor>> = {
        sample: combineHost([[plan.initNoiseSigma, noise]]),
        prediction: noise, // no step before the first: its factor is 0
      };
      for (const [index, step] of plan.steps.entries()) {
        throwIfAborted();
        const host = {
          ...same,
          noise: step.update.noise === 0 ? noise : noiseOf(index + 1),
          timestep: HostTensor.filled([1], step.timestep),
          factors: factorsOf(step),
        };
        const next = await stages.step.run(
          {
            ...specsOf(host),
            sample: latents,
            previous: latents,
            context: { shape: [seen.length, text.tokens, text.features] },
          },
          { ...host, sample: state.sample, previous: state.prediction, context },
        );
        release();
        owned.push(next.sample, next.prediction);
        state = next;
        onStep?.(index + 1, plan.steps.length);
      }
      const unetMs = clock();

      throwIfAborted();
      const { images: device } = await stages.decoder.run({ latents }, { latents: state.sample });
      owned.push(device);
      const images = await backend.download(device);
      const decoderMs = clock();
      if (!allFinite(images)) {
        const made = { "text encoder": context, "U-Net": owned[0]! };
        throw await nonFinite(backend, made);
      }
      const times = { textEncoder: textMs, unet: unetMs, decoder: decoderMs };
      return { images, times, warnings: [...truncations(cut, text.tokens), ...blackPictures(images)] };
    } finally {
      release();
    }
  };

  const inTurn: Pipeline["generate"] = (prompts, given = {}) => {
    if (disposed) return Promise.reject(new SdxsError("DISPOSED", "generate: this pipeline was disposed of."));
    const result = last.then(() => generate(typeof prompts === "string" ? [prompts] : prompts, given));
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
      await text.dispose();
      for (const stage of Object.values(stages)) await stage.dispose();
    },
  };
}

const allFinite = ({ data }: HostTensor): boolean => data.every(Number.isFinite);

/** Milliseconds since the last call. */
function stopwatch(): () => number {
  let begin = performance.now();
  return () => {
    const now = performance.now();
    const lap = now - begin;
    begin = now;
    return lap;
  };
}

/** The error of the first stage whose result is not finite; the decoder's where those before it are. */
async function nonFinite<D>(backend: Backend<D>, results: Readonly<Record<string, D>>): Promise<SdxsError> {
  let stage = "decoder";
  for (const [name, tensor] of Object.entries(results)) {
    if (allFinite(await backend.download(tensor))) continue;
    stage = name;
    break;
  }
  return new SdxsError(
    "NON_FINITE",
    `generate: the ${stage} gave numbers that are not finite. Check its weights; a network that overflows in float16 needs ` +
      `float32.`,
  );
}

function truncations(cut: readonly string[], tokens: number): string[] {
  return [...new Set(cut)].map(
    (prompt) => `The prompt "${prompt}" has more than ${tokens} tokens; its last words were cut.`,
  );
}

function blackPictures({ shape, data }: HostTensor): string[] {
  const size = data.length / (shape[0] ?? 1);
  return Array.from({ length: shape[0] ?? 0 }, (_, image) => image)
    .filter((image) => data.subarray(image * size, (image + 1) * size).every((value) => value < BLACK))
    .map((image) => `Image ${image} is all black: the decoder was given latents far outside what it knows.`);
}

/** Below half a step of 8 bits. */
const BLACK = -1 + 1 / 255;
