import { controlNetParameters, parseControlNetConfig, type ControlNetConfig } from "@sdxs/controlnet";
import type { OnUnknownFields, ParameterSpec } from "@sdxs/tensor";
import { parseUNetConfig, unetParameters, type UNetConfig } from "@sdxs/tiny-unet";
import {
  autoencoderKlParameters,
  autoencoderTinyParameters,
  fromFormerKlNames,
  parseAutoencoderKlConfig,
  parseAutoencoderTinyConfig,
  type AutoencoderKlConfig,
  type AutoencoderTinyConfig,
} from "@sdxs/tiny-vae";
import {
  clipModelParameters,
  parseClipConfig,
  parseVisionEncoderConfig,
  visionEncoderParameters,
  type ClipConfig,
  type VisionEncoderConfig,
} from "../clip/clip-model.js";
import { parseTextEncoderConfig, textEncoderParameters, type TextEncoderConfig } from "../clip/text-encoder.js";

/** The classes of diffusers and transformers that can be loaded and saved, with their configurations. */
export interface ModelConfigs {
  readonly UNet2DConditionModel: UNetConfig;
  readonly ControlNetModel: ControlNetConfig;
  readonly AutoencoderKL: AutoencoderKlConfig;
  readonly AutoencoderTiny: AutoencoderTinyConfig;
  readonly CLIPTextModel: TextEncoderConfig;
  readonly CLIPTextModelWithProjection: TextEncoderConfig;
  readonly CLIPVisionModelWithProjection: VisionEncoderConfig;
  readonly CLIPModel: ClipConfig;
}

export type ModelClassName = keyof ModelConfigs;

/** What loading and saving need to know of a class. */
export interface ModelClass<C> {
  /** Whose folder layout: it decides the names of files and where config.json names the class. */
  readonly library: "diffusers" | "transformers";
  /** Throws `UnsupportedConfigError`. */
  readonly parse: (json: unknown, onUnknown?: OnUnknownFields) => C;
  readonly parameters: (config: C) => Record<string, ParameterSpec>;
  /** Fields of config.json that follow from the configuration and are not part of it. */
  readonly fields?: (config: C) => Readonly<Record<string, unknown>>;
  /** A checkpoint's entries under the parameters' names, without those that are none. Default: as they are. */
  readonly parametersOf?: <V>(stored: Readonly<Record<string, V>>) => Record<string, V>;
  /** Of a model that is of use without some of its parameters: those that may be absent, all of them together. */
  readonly isOptional?: (parameter: string) => boolean;
}

const clipTextModel = (projection: boolean): ModelClass<TextEncoderConfig> => ({
  library: "transformers",
  parse: parseTextEncoderConfig,
  parameters: (config) => textEncoderParameters(config, { projection }),
  fields: () => ({ model_type: "clip_text_model" }),
  parametersOf: withoutPositionIds,
});

/** Without the numbers 0, 1, 2, ..., which old versions of transformers saved. */
const withoutPositionIds = <V>({
  "text_model.embeddings.position_ids": _,
  "vision_model.embeddings.position_ids": __,
  ...parameters
}: Readonly<Record<string, V>>): Record<string, V> => parameters;

/** Of an autoencoder, whose decoder draws pictures without it. */
export const isEncoderParameter = (name: string): boolean => /^(encoder|quant_conv)\./.test(name);

export const modelClasses: { readonly [N in ModelClassName]: ModelClass<ModelConfigs[N]> } = {
  UNet2DConditionModel: {
    library: "diffusers",
    parse: parseUNetConfig,
    parameters: unetParameters,
  },
  ControlNetModel: {
    library: "diffusers",
    parse: parseControlNetConfig,
    parameters: controlNetParameters,
    // It would go before attention_head_dim.
    fields: () => ({ num_attention_heads: null }),
  },
  AutoencoderKL: {
    library: "diffusers",
    parse: parseAutoencoderKlConfig,
    parameters: autoencoderKlParameters,
    fields: ({ block_out_channels: levels }) => ({
      down_block_types: levels.map(() => "DownEncoderBlock2D"),
      up_block_types: levels.map(() => "UpDecoderBlock2D"),
    }),
    parametersOf: fromFormerKlNames,
    isOptional: isEncoderParameter,
  },
  AutoencoderTiny: {
    library: "diffusers",
    parse: parseAutoencoderTinyConfig,
    parameters: autoencoderTinyParameters,
    isOptional: isEncoderParameter,
  },
  CLIPTextModel: clipTextModel(false),
  CLIPTextModelWithProjection: clipTextModel(true),
  CLIPVisionModelWithProjection: {
    library: "transformers",
    parse: parseVisionEncoderConfig,
    parameters: (config) => visionEncoderParameters(config, { projection: true }),
    fields: () => ({ model_type: "clip_vision_model" }),
    parametersOf: withoutPositionIds,
  },
  CLIPModel: {
    library: "transformers",
    parse: parseClipConfig,
    parameters: clipModelParameters,
    fields: () => ({ model_type: "clip" }),
    parametersOf: withoutPositionIds,
  },
};

export function isModelClassName(name: unknown): name is ModelClassName {
  return typeof name === "string" && Object.hasOwn(modelClasses, name);
}
