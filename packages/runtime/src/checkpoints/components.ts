import type { SchedulerConfig } from "@sdxs/diffusion";
import type { PromptTokenizer } from "../clip/tokenizer.js";
import type { Model } from "./open-model.js";

/** The components of a diffusers pipeline that are loaded and saved, under diffusers' names. */
export interface PipelineComponents {
  readonly unet: Model<"UNet2DConditionModel">;
  readonly vae: Model<"AutoencoderKL" | "AutoencoderTiny">;
  readonly text_encoder: Model<"CLIPTextModel" | "CLIPTextModelWithProjection">;
  /** Stable Diffusion XL's second; `joinTextEncodings` joins what both give. */
  readonly text_encoder_2: Model<"CLIPTextModel" | "CLIPTextModelWithProjection">;
  readonly tokenizer: PromptTokenizer;
  /** For `text_encoder_2`. It pads with another token. */
  readonly tokenizer_2: PromptTokenizer;
  /** scheduler_config.json, of any class; `planFromConfig` of `@sdxs/diffusion` makes a sampler of those it knows. */
  readonly scheduler: SchedulerConfig;
  /** One or several: the folders "controlnet", "controlnet_1", "controlnet_2", ... */
  readonly controlnet: readonly Model<"ControlNetModel">[];
  /** What model_index.json says of how the pipeline draws. */
  readonly settings?: PipelineSettings;
}

/** Fields of model_index.json that change pictures. */
export interface PipelineSettings {
  /** Of Stable Diffusion XL, see `PipelineOptions.forceZerosForEmptyPrompt`. */
  readonly force_zeros_for_empty_prompt?: boolean;
}

export type ComponentName = Exclude<keyof PipelineComponents, "settings">;

/** What a text-to-image pipeline is made of; ControlNets if it has any, and Stable Diffusion XL's second text encoder. */
export type TextToImageComponents = Pick<
  PipelineComponents,
  "unet" | "vae" | "text_encoder" | "tokenizer" | "scheduler"
> &
  Partial<Pick<PipelineComponents, "controlnet" | "text_encoder_2" | "tokenizer_2" | "settings">>;
