import { checkSchedulerConfig, planFromConfig, type SamplerPlan } from "@sdxs/diffusion";
import { HostTensor, InvalidArgumentError, SdxsError, ShapeError, random, sizeOf } from "@sdxs/tensor";
import { guidanceScaleEmbedding } from "@sdxs/tiny-unet";
import { pixelsPerLatent, trainedSize, wholeLatents } from "./picture-size.js";
import { textToImageComponents } from "../checkpoints/check-components.js";
import { autoencoderWeights } from "./pipeline-programs.js";
import { pipelineScheduler, schedulerWarnings } from "./pipeline-scheduler.js";
import type { PipelineWarning } from "../checkpoints/pipeline-warnings.js";
import type { GenerateOptions, PipelineOptions } from "./pipeline-types.js";
import type { TextToImageComponents } from "../checkpoints/components.js";
import { resizePicture } from "../images/resize-picture.js";
import { withTextualInversions } from "./textual-inversion.js";
import { samplingDefaults } from "./sampling-defaults.js";

/** What the image encoder takes. */
export interface EncodedImage {
  /** [images or 1, 3, height, width] in [-1, 1] */
  readonly images: HostTensor;
  /** Standard normal, of the latents' shape, for an encoder that gives a distribution. */
  readonly posterior: HostTensor;
}

/** What a call of `generate` asks for, checked and with its defaults. */
export interface GenerateRequest {
  readonly prompts: readonly string[];
  /** null: zeros in place of its embeddings. */
  readonly negativePrompt: string | null;
  /** For Stable Diffusion XL: height and width, where it is cropped, and height and width again, in pixels. */
  readonly sizes: readonly number[] | undefined;
  readonly plan: SamplerPlan;
  readonly image: EncodedImage | undefined;
  /** Of classifier-free guidance; undefined: none. */
  readonly guidanceScale: number | undefined;
  /** For a U-Net that takes its guidance as an input. */
  readonly guidanceEmbedding: HostTensor | undefined;
  /** Standard normal [images, channels, height, width] in latents. */
  readonly noise: HostTensor;
  /** Fresh noise for a step that adds some, counted from 1. */
  readonly noiseOf: (step: number) => HostTensor;
  readonly controls: NonNullable<GenerateOptions["controls"]>;
  readonly guessMode: boolean;
  readonly loras: NonNullable<GenerateOptions["loras"]>;
  /** Of what has no effect, or not the one that was meant. */
  readonly warnings: readonly PipelineWarning[];
  readonly signal: GenerateOptions["signal"] | undefined;
  readonly onStep: GenerateOptions["onStep"] | undefined;
}

/** diffusers' default of image-to-image. */
const IMAGE_STRENGTH = 0.8;

/** A pipeline's components, and what its requests need not say. */
export interface RequestDefaults extends Pick<PipelineOptions<unknown>, "scheduler" | "steps" | "guidanceScale"> {
  readonly components: TextToImageComponents;
  readonly forceZerosForEmptyPrompt: boolean;
}

/** @throws as `checkTextToImage` and `pipelineScheduler` */
export function requestDefaults(caller: string, options: Omit<PipelineOptions<unknown>, "backend">): RequestDefaults {
  const given = textToImageComponents(caller, options.components);
  const components = withTextualInversions(given, options.embeddings ?? []);
  checkSchedulerConfig(pipelineScheduler(components, options.scheduler));
  return {
    ...options,
    components,
    forceZerosForEmptyPrompt:
      options.forceZerosForEmptyPrompt ?? components.settings?.force_zeros_for_empty_prompt ?? true, // diffusers' default
  };
}

/** Throws `InvalidArgumentError` and `ShapeError` for what does not fit the pipeline. */
export function checkRequest(
  { components, ...defaults }: RequestDefaults,
  prompts: readonly string[],
  options: GenerateOptions,
): GenerateRequest {
  const scheduler = pipelineScheduler(components, options.scheduler ?? defaults.scheduler);
  const ofModel = samplingDefaults(components, scheduler);
  const { guidanceScale = defaults.guidanceScale ?? ofModel.guidanceScale } = options;
  const { image, strength = IMAGE_STRENGTH, seed = 0 } = options;
  if (!(strength > 0 && strength <= 1)) {
    throw new InvalidArgumentError(`generate: strength must be above 0 and at most 1, got ${strength}.`);
  }
  const fewest = image === undefined ? 1 : Math.ceil(1 / strength);
  const { steps = Math.max(defaults.steps ?? ofModel.steps, fewest) } = options;
  const { noise, eta = 0, controls = [], loras = [], signal, onStep } = options;
  // What callers in plain JavaScript give may be anything.
  if (!Array.isArray(prompts) || !prompts.every((prompt) => typeof prompt === "string")) {
    throw new InvalidArgumentError(
      `generate: expected a prompt or a list of prompts, got ${describe(prompts)}. Options come after it: generate(prompt, options).`,
    );
  }
  if (prompts.length === 0) {
    throw new InvalidArgumentError("generate: expected at least one prompt, got none.");
  }
  if (!Number.isInteger(steps) || steps < 1) {
    throw new InvalidArgumentError(`generate: steps must be a whole number of at least 1, got ${steps}.`);
  }
  if (!Number.isFinite(guidanceScale)) {
    throw new InvalidArgumentError(`generate: guidanceScale must be a finite number, got ${guidanceScale}.`);
  }
  if (image !== undefined && Math.floor(steps * strength) === 0) {
    throw new InvalidArgumentError(
      `generate: of ${steps} steps a strength of ${strength} leaves none. Give at least ${fewest} steps.`,
    );
  }
  const seeds = seedsOf(seed, prompts.length);
  const shape = latentShape(components, prompts.length, options);
  if (noise !== undefined && noise.shape.join() !== shape.join()) {
    throw new ShapeError(`generate: noise must be [${shape.join(", ")}], got [${noise.shape.join(", ")}].`);
  }
  if (image !== undefined) checkEncoder(components);
  const picture = image && fitted("image", image, components.vae.config.in_channels, shape, components, [-1, 1]);
  const fittedControls = fitControls(components, shape, controls);
  const { addition_embed_type: added, time_cond_proj_dim: guidanceFeatures } = components.unet.config;
  const isXl = added !== null;
  // diffusers' do_classifier_free_guidance
  const isGuided = guidanceScale > 1 && guidanceFeatures === null;
  const pixels = shape.slice(2).map((size) => size * pixelsPerLatent(components));
  const noiseOf = (step: number): HostTensor => noiseFrom(seeds, step, shape);
  const plan = planFromConfig(scheduler, steps, { eta, ...(image && { strength }) });
  return {
    prompts,
    negativePrompt: options.negativePrompt ?? (isXl && defaults.forceZerosForEmptyPrompt ? null : ""),
    sizes: isXl ? [...pixels, 0, 0, ...pixels] : undefined,
    plan,
    image: picture && { images: picture, posterior: noiseFrom(seeds, "posterior", shape) },
    guidanceScale: isGuided ? guidanceScale : undefined,
    guidanceEmbedding: guidanceFeatures === null ? undefined : guidanceScaleEmbedding(guidanceScale, guidanceFeatures),
    noise: noise ?? noiseOf(0),
    noiseOf,
    controls: fittedControls,
    // diffusers: the first of several ControlNets decides for all.
    guessMode: options.guessMode ?? components.controlnet?.[0]?.config.global_pool_conditions ?? false,
    loras,
    warnings: [
      ...withoutEffect(options, guidanceScale, guidanceFeatures !== null),
      ...lorasWithoutEffect(components, loras),
      ...farSize(components, shape),
      ...schedulerWarnings(scheduler, plan, image === undefined),
    ],
    signal,
    onStep,
  };
}

/** A seed, and an image's place among those of that seed. */
type ImageSeed = readonly [seed: number | string, place: number];

/** @throws InvalidArgumentError for a list of another length */
function seedsOf(seed: NonNullable<GenerateOptions["seed"]>, images: number): ImageSeed[] {
  if (typeof seed !== "object") return Array.from({ length: images }, (_, place) => [seed, place]);
  if (seed.length === images) return seed.map((one) => [one, 0]);
  throw new InvalidArgumentError(
    `generate: a list of seeds must have one for each prompt, ${images} here, got ${seed.length}.`,
  );
}

/** Each image's noise depends on its seed, the step and its place alone, so that batches do not change pictures. */
function noiseFrom(
  seeds: readonly ImageSeed[],
  step: number | "posterior",
  [images = 0, ...shape]: readonly number[],
): HostTensor {
  const size = sizeOf(shape);
  const data = new Float32Array(images * size);
  for (const [image, [seed, place]] of seeds.slice(0, images).entries()) {
    data.set(random(seed, "generate", step, place).normal(shape).data, image * size);
  }
  return new HostTensor([images, ...shape], data);
}

/** An encoder that was never trained gives the same latents for every picture. */
function checkEncoder(components: TextToImageComponents): void {
  const weights = Object.values(autoencoderWeights(components, "encoder"));
  if (weights.some(({ data }) => data.some((value) => value !== 0))) return;
  throw new SdxsError(
    "UNSUPPORTED_OPERATION",
    `generate: image needs the autoencoder's encoder, and this vae's ${weights.length === 0 ? "is absent" : "holds zeros alone"}. ` +
      `Use a vae with an encoder, as that of the model that this one was distilled from.`,
  );
}

/**
 * Shape of the latents of pictures in pixels, by default of the size that the U-Net was trained on.
 * Throws `InvalidArgumentError` for a size that the decoder cannot give.
 */
export function latentShape(
  components: TextToImageComponents,
  images: number,
  { image, ...options }: GenerateOptions,
): number[] {
  const { config } = components.unet;
  const factor = pixelsPerLatent(components);
  const ofImage = image && wholeLatents(components, { width: image.shape[3] ?? 0, height: image.shape[2] ?? 0 });
  const { width = ofImage?.width, height = ofImage?.height } = options;
  const trained = [config.sample_size ?? []].flat();
  const size = (name: string, pixels: number | undefined, latents: number | undefined): number => {
    const value = pixels ?? (latents === undefined ? undefined : latents * factor);
    if (value === undefined) {
      throw new InvalidArgumentError(
        `generate: the U-Net's configuration has no "sample_size". Give width and height in pixels.`,
      );
    }
    if (!Number.isInteger(value) || value < factor || value % factor !== 0) {
      const nearest = Math.max(1, Math.round(value / factor)) * factor;
      throw new InvalidArgumentError(
        `generate: ${name} must be a multiple of ${factor} pixels, got ${value}.` +
          (Number.isFinite(nearest) ? ` The nearest is ${nearest}.` : ""),
      );
    }
    return value / factor;
  };
  return [images, config.in_channels, size("height", height, trained[0]), size("width", width, trained.at(-1))];
}

/** Throws for controls that do not fit; gives them at the picture's size. */
function fitControls(
  { controlnet = [], ...components }: TextToImageComponents,
  latents: readonly number[],
  controls: NonNullable<GenerateOptions["controls"]>,
): NonNullable<GenerateOptions["controls"]> {
  if (controls.length > 0 && controls.length !== controlnet.length) {
    throw new InvalidArgumentError(
      `generate: controls must be one for each ControlNet, ${controlnet.length} here, got ${controls.length}. ` +
        `A scale of 0 turns one off.`,
    );
  }
  return controls.map(({ image, scale = 1 }, index) => {
    if (!Number.isFinite(scale)) {
      throw new InvalidArgumentError(`generate: controls[${index}].scale must be a finite number, got ${scale}.`);
    }
    const channels = controlnet[index]!.config.conditioning_channels;
    return { image: fitted(`controls[${index}].image`, image, channels, latents, components, [0, 1]), scale };
  });
}

/** Images, one for each prompt or for all, at the size that the latents stand for, to which diffusers resizes them, too. */
function fitted(
  name: string,
  image: HostTensor,
  channels: number,
  [images = 0, , height = 0, width = 0]: readonly number[],
  components: Pick<TextToImageComponents, "vae">,
  range: readonly [number, number],
): HostTensor {
  const { shape } = image;
  const factor = pixelsPerLatent(components);
  const [count = 0, given] = shape;
  if (shape.length !== 4 || !(count === 1 || count === images) || given !== channels || sizeOf(shape) === 0) {
    throw new ShapeError(
      `generate: ${name} must be [${images} or 1, ${channels}, height, width], got [${shape.join(", ")}].` +
        (given !== channels && shape.at(-1) === channels ? " Put the channels before height and width." : ""),
    );
  }
  return resizePicture(image, { width: factor * width, height: factor * height }, { range });
}

/** Options that change nothing beside the others. */
function withoutEffect(options: GenerateOptions, guidanceScale: number, takesGuidance: boolean): PipelineWarning[] {
  const { image, strength, negativePrompt, controls = [], guessMode } = options;
  const found: string[] = [];
  if (negativePrompt !== undefined && negativePrompt !== "" && (guidanceScale <= 1 || takesGuidance)) {
    found.push(
      takesGuidance
        ? "negativePrompt has no effect with a latent consistency model, which takes its guidance as an input."
        : `negativePrompt has no effect with a guidanceScale of ${guidanceScale}: give one above 1.`,
    );
  }
  if (guessMode !== undefined && controls.length === 0) {
    found.push("guessMode has no effect without controls: give what the ControlNets are to follow.");
  }
  if (strength !== undefined && image === undefined) {
    found.push("strength has no effect without image: give the picture to begin with.");
  }
  return found.map((message) => ({ code: "NO_EFFECT", message: `generate: ${message}` }));
}

const loraParts = ["unet", "text_encoder", "text_encoder_2"] as const;

/** Parts of LoRAs whose network the pipeline has not. Throws `InvalidArgumentError` for what is no LoRA of `readLora`. */
function lorasWithoutEffect(
  components: TextToImageComponents,
  loras: NonNullable<GenerateOptions["loras"]>,
): PipelineWarning[] {
  return loras.flatMap((lora) => {
    const unknown = Object.keys(lora).find((name) => name !== "weight" && !loraParts.some((part) => part === name));
    if (unknown !== undefined) {
      throw new InvalidArgumentError(
        `generate: each of loras may have ${loraParts.join(", ")} and weight, got "${unknown}". Give the \`loras\` that readLora returns.`,
      );
    }
    const absent = loraParts.filter(
      (part) => components[part] === undefined && Object.keys(lora[part]?.params ?? {}).length > 0,
    );
    return absent.map((part) => ({
      code: "NO_EFFECT" as const,
      message: `generate: a LoRA's part for ${part} has no effect: the pipeline has no such network.`,
    }));
  });
}

/** Chosen: Stable Diffusion 1 is in use at 512x768 pixels, 1.5 times its own, and repeats things at 1024x1024, 4 times its own. */
const FAR = 2;

/** U-Nets draw pictures of other sizes than they were trained on, worse and worse. */
function farSize(components: TextToImageComponents, [, , height = 0, width = 0]: readonly number[]): PipelineWarning[] {
  const trained = trainedSize(components);
  if (trained === undefined) return [];
  const factor = pixelsPerLatent(components);
  const ratio = (height * width * factor ** 2) / (trained.height * trained.width);
  if (ratio <= FAR && ratio >= 1 / FAR) return [];
  return [
    {
      code: "FAR_SIZE",
      message:
        `generate: a picture of ${width * factor}x${height * factor} is far from the ${trained.width}x${trained.height} pixels ` +
        `that the U-Net was trained on, and may show noise or the same thing several times.`,
    },
  ];
}

function describe(value: unknown): string {
  if (Array.isArray(value)) return `a list with ${describe(value.find((item) => typeof item !== "string"))}`;
  return value === null
    ? "null"
    : value === undefined
      ? "nothing"
      : `${typeof value === "object" ? "an" : "a"} ${typeof value}`;
}
