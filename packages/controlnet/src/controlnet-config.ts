import {
  configReader,
  either,
  finiteNumber,
  flag,
  listOf,
  nullable,
  oneOf,
  positiveInteger,
  type FieldType,
  type OnUnknownFields,
} from "@sdxs/tensor";
import { unetEncoderStages, type UNetEncoderConfig } from "@sdxs/tiny-unet";

const MODEL = "ControlNetModel";
const MID_BLOCK_TYPES = ["UNetMidBlock2DCrossAttn", "UNetMidBlock2D"] as const;

/**
 * The configuration of a ControlNet, in the fields and with the meanings of diffusers' `ControlNetModel` config.json:
 * those of a U-Net's encoder and of the condition. Fields of diffusers that are not here are supported at diffusers'
 * default alone.
 */
export interface ControlNetConfig extends UNetEncoderConfig {
  /** UNetMidBlock2D: one residual block, as for SDXS. A ControlNet always has a mid stage, even if its U-Net has none. */
  readonly mid_block_type: (typeof MID_BLOCK_TYPES)[number];
  readonly layers_per_block: number;
  /** Channels of the condition: 3 for an image. */
  readonly conditioning_channels: number;
  /** Channel order that the network was trained with. bgr: the condition, which is given as rgb, is reversed first. */
  readonly controlnet_conditioning_channel_order: "rgb" | "bgr";
  /** Channels of the condition's embedding from full resolution down; each number but the first halves the resolution. */
  readonly conditioning_embedding_out_channels: readonly number[];
  /** The residuals are averaged over the image, for conditions without a layout; guess mode weighs nothing then. */
  readonly global_pool_conditions: boolean;
}

/**
 * Reads diffusers' config.json of a `ControlNetModel`. Absent fields take diffusers' defaults.
 * `num_attention_heads`, which diffusers prefers to `attention_head_dim`, becomes the latter: they mean the same.
 * `onUnknown` is called with fields that the model does not have, which are ignored.
 * Throws `UnsupportedConfigError`, naming the field, its value and what is supported.
 *
 * @example
 * const config = parseControlNetConfig(JSON.parse(await readFile("controlnet/config.json", "utf8")));
 */
export function parseControlNetConfig(json: unknown, onUnknown?: OnUnknownFields): ControlNetConfig {
  const read = configReader(MODEL, json);
  read("_class_name", oneOf([MODEL]), MODEL);
  read("act_fn", oneOf(["silu", "swish"]), "silu");
  read("class_embed_type", oneOf([null]), null);
  read("downsample_padding", oneOf([1]), 1);
  read("encoder_hid_dim", oneOf([null]), null);
  read("encoder_hid_dim_type", oneOf([null]), null);
  read("mid_block_scale_factor", oneOf([1]), 1);
  read("num_class_embeds", oneOf([null]), null);
  read("resnet_time_scale_shift", oneOf(["default"]), "default");
  read.skip("addition_embed_type_num_heads"); // of addition_embed_type "text", which is refused

  const oneOrMore = either(positiveInteger, listOf(positiveInteger));
  const heads = read("num_attention_heads", nullable(oneOrMore), null);
  const headsByMisnomer = read("attention_head_dim", oneOrMore, 8);
  const addedEmbedding = read("addition_embed_type", oneOf(["text_time", null]), null);
  const addedFeatures: FieldType<number | null> =
    addedEmbedding === "text_time" ? positiveInteger : nullable(positiveInteger);
  const config: ControlNetConfig = {
    in_channels: read("in_channels", positiveInteger, 4),
    conditioning_channels: read("conditioning_channels", positiveInteger, 3),
    flip_sin_to_cos: read("flip_sin_to_cos", flag, true),
    freq_shift: read("freq_shift", finiteNumber, 0),
    down_block_types: read("down_block_types", listOf(oneOf(["CrossAttnDownBlock2D", "DownBlock2D"])), [
      "CrossAttnDownBlock2D",
      "CrossAttnDownBlock2D",
      "CrossAttnDownBlock2D",
      "DownBlock2D",
    ]),
    mid_block_type: read("mid_block_type", oneOf(MID_BLOCK_TYPES), "UNetMidBlock2DCrossAttn"),
    only_cross_attention: read("only_cross_attention", either(flag, listOf(flag)), false),
    block_out_channels: read("block_out_channels", listOf(positiveInteger), [320, 640, 1280, 1280]),
    layers_per_block: read("layers_per_block", positiveInteger, 2),
    norm_num_groups: read("norm_num_groups", positiveInteger, 32),
    norm_eps: read("norm_eps", finiteNumber, 1e-5),
    cross_attention_dim: read("cross_attention_dim", positiveInteger, 1280),
    transformer_layers_per_block: read("transformer_layers_per_block", either(positiveInteger, listOf(oneOrMore)), 1),
    attention_head_dim: heads ?? headsByMisnomer,
    use_linear_projection: read("use_linear_projection", flag, false),
    addition_embed_type: addedEmbedding,
    addition_time_embed_dim: read("addition_time_embed_dim", addedFeatures, null),
    projection_class_embeddings_input_dim: read("projection_class_embeddings_input_dim", addedFeatures, null),
    upcast_attention: read("upcast_attention", flag, false),
    controlnet_conditioning_channel_order: read("controlnet_conditioning_channel_order", oneOf(["rgb", "bgr"]), "rgb"),
    conditioning_embedding_out_channels: read(
      "conditioning_embedding_out_channels",
      listOf(positiveInteger),
      [16, 32, 96, 256],
    ),
    global_pool_conditions: read("global_pool_conditions", flag, false),
  };
  unetEncoderStages(config, MODEL);
  read.reportUnknown(onUnknown);
  return config;
}
