import { parseTextEncoderConfig } from "@sdxs/runtime";
import { parseUNetConfig } from "@sdxs/tiny-unet";
import { parseAutoencoderKlConfig, parseAutoencoderTinyConfig } from "@sdxs/tiny-vae";

/** Height and width of the pictures in pixels, and of their latents. */
export const imageSize = 64;
export const latentSize = 16;

/** Tokens of a prompt with begin and end: the length that the tokenizer was made for, enough for every caption. */
export const promptTokens = 20;

/** Images [3, 64, 64] to latents [4, 16, 16]. `scaling_factor` is measured after training. */
export const autoencoderConfig = parseAutoencoderKlConfig({
  block_out_channels: [24, 32, 64],
  down_block_types: ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"],
  up_block_types: ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"],
  layers_per_block: 1,
  norm_num_groups: 8,
  mid_block_add_attention: false,
});

/** The quickstart's image decoder: no normalisation, no attention. */
export const tinyDecoderConfig = parseAutoencoderTinyConfig({
  decoder_block_out_channels: [24, 24, 24],
  encoder_block_out_channels: [24, 24, 24],
  num_decoder_blocks: [2, 1, 1],
  num_encoder_blocks: [1, 1, 2],
});

/**
 * What `npm run recipe:emoji -- tiny-vae` trains: a decoder of less than a tenth of the large one's multiply-adds, and an
 * encoder. Chosen: diffusers runs equal numbers of channels only, so that most are had without a block at the pixels'
 * resolution. Of 12, 16 and 20 channels within the tenth, by 3,000 steps of plain MSE: 22.6 dB with a block there; 22.9
 * (12, blocks 5, 4, 0), 22.8 (16; 2, 1, 0) and 22.3 (20; 2, 0, 0) without.
 */
export const tinyAutoencoderConfig = parseAutoencoderTinyConfig({
  decoder_block_out_channels: [16, 16, 16],
  encoder_block_out_channels: [12, 12, 12],
  num_decoder_blocks: [4, 1, 0],
  num_encoder_blocks: [1, 1, 1],
});

/** Trained together with the teacher: there is no pretrained one for a vocabulary of this size. */
export const textEncoderConfig = (vocabularySize: number) =>
  parseTextEncoderConfig({
    vocab_size: vocabularySize,
    hidden_size: 128,
    intermediate_size: 512,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    max_position_embeddings: promptTokens,
    eos_token_id: 2,
  });

/** Stable Diffusion 2.1's U-Net in small: the same blocks at a fifth of its channels, one residual block a level. */
export const teacherConfig = parseUNetConfig({
  sample_size: latentSize,
  block_out_channels: [64, 96, 128, 128],
  layers_per_block: 1,
  down_block_types: ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
  mid_block_type: "UNetMidBlock2DCrossAttn",
  up_block_types: ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
  cross_attention_dim: 128,
  attention_head_dim: [2, 3, 4, 4],
  use_linear_projection: true,
});
