import type { UNetConfig } from "./unet-config.js";

const sd15: UNetConfig = {
  sample_size: 64,
  in_channels: 4,
  out_channels: 4,
  center_input_sample: false,
  flip_sin_to_cos: true,
  freq_shift: 0,
  down_block_types: ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
  mid_block_type: "UNetMidBlock2DCrossAttn",
  up_block_types: ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
  only_cross_attention: false,
  block_out_channels: [320, 640, 1280, 1280],
  layers_per_block: 2,
  norm_num_groups: 32,
  norm_eps: 1e-5,
  cross_attention_dim: 768,
  transformer_layers_per_block: 1,
  reverse_transformer_layers_per_block: null,
  attention_head_dim: 8,
  use_linear_projection: false,
  addition_embed_type: null,
  addition_time_embed_dim: null,
  projection_class_embeddings_input_dim: null,
  time_embedding_dim: null,
  time_cond_proj_dim: null,
  conv_in_kernel: 3,
  conv_out_kernel: 3,
  upcast_attention: false,
};

const sd21Base: UNetConfig = {
  ...sd15,
  cross_attention_dim: 1024,
  attention_head_dim: [5, 10, 20, 20],
  use_linear_projection: true,
};

const sdxl: UNetConfig = {
  ...sd15,
  sample_size: 128,
  down_block_types: ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
  up_block_types: ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
  block_out_channels: [320, 640, 1280],
  cross_attention_dim: 2048,
  transformer_layers_per_block: [1, 2, 10],
  attention_head_dim: [5, 10, 20],
  use_linear_projection: true,
  addition_embed_type: "text_time",
  addition_time_embed_dim: 256,
  projection_class_embeddings_input_dim: 2816,
};

const bkSdmBase: UNetConfig = { ...sd15, layers_per_block: 1 };

const bkSdmTiny: UNetConfig = {
  ...bkSdmBase,
  down_block_types: ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
  mid_block_type: null,
  up_block_types: ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
  block_out_channels: [320, 640, 1280],
};

const sdxs512DreamShaper: UNetConfig = {
  ...bkSdmTiny,
  down_block_types: ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
  up_block_types: ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
};

/** What SDXS-512 and SDXS-512-0.9 have from Stable Diffusion 2.1. */
const ofSd21 = { cross_attention_dim: 1024, attention_head_dim: [5, 10, 20], use_linear_projection: true } as const;

/**
 * The published U-Nets by name, each equal to what `parseUNetConfig` reads from the model's unet/config.json:
 *
 * - teachers: `sd15` (Stable Diffusion 1.5), `sd21-base`, `sdxl`;
 * - students of SDXS: `sdxs-512` (the paper's, of SD 2.1 base), `sdxs-512-0.9` (the release that looks at the text twice
 *   at the highest resolution), `sdxs-512-dreamshaper` (of SD 1.5), `sdxs-1024` (which is Segmind Vega, of SDXL);
 * - students of BK-SDM, of SD 1.5: `bk-sdm-base`, `bk-sdm-small`, `bk-sdm-tiny`.
 */
export const publishedUNets: Readonly<Record<PublishedUNet, UNetConfig>> = {
  sd15,
  "sd21-base": sd21Base,
  sdxl,
  "sdxs-512": { ...sdxs512DreamShaper, ...ofSd21 },
  "sdxs-512-0.9": { ...bkSdmTiny, ...ofSd21, only_cross_attention: [true, false, false] },
  "sdxs-512-dreamshaper": sdxs512DreamShaper,
  "sdxs-1024": { ...sdxl, mid_block_type: "UNetMidBlock2D", transformer_layers_per_block: [1, 1, 2] },
  "bk-sdm-base": bkSdmBase,
  "bk-sdm-small": { ...bkSdmBase, mid_block_type: null },
  "bk-sdm-tiny": bkSdmTiny,
};

export type PublishedUNet =
  | "sd15"
  | "sd21-base"
  | "sdxl"
  | "sdxs-512"
  | "sdxs-512-0.9"
  | "sdxs-512-dreamshaper"
  | "sdxs-1024"
  | "bk-sdm-base"
  | "bk-sdm-small"
  | "bk-sdm-tiny";
