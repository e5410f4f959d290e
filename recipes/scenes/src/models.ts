import { fileURLToPath } from "node:url";
import { parseTextEncoderConfig } from "@sdxs/runtime";
import { parseUNetConfig } from "@sdxs/tiny-unet";
import { parseAutoencoderKlConfig } from "@sdxs/tiny-vae";

/** The shipped autoencoder, trained by `npm run recipe:scenes -- autoencoder`. */
export const autoencoderFolder = fileURLToPath(new URL("../autoencoder", import.meta.url));

/** Height, width and channels of a scene's latents. */
export const latentSize = 16;
export const latentChannels = 16;

/**
 * Images [3, 128, 128] to latents [16, 16, 16]. `scaling_factor` is measured after training. Chosen for two cores: few
 * channels where there are many pixels; and few groups, so that a norm leaves differences between channels as they are.
 */
export const autoencoderConfig = parseAutoencoderKlConfig({
  latent_channels: latentChannels,
  block_out_channels: [16, 32, 64, 128],
  down_block_types: ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"],
  up_block_types: ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"],
  layers_per_block: 1,
  norm_num_groups: 4,
  mid_block_add_attention: false,
});

/** Tokens of a prompt with begin and end. Of 4,000 captions the longest has 25. */
export const promptTokens = 32;

/** Trained together with the teacher. */
export const textEncoderConfig = (vocabularySize: number) =>
  parseTextEncoderConfig({
    vocab_size: vocabularySize,
    hidden_size: 192,
    intermediate_size: 768,
    num_hidden_layers: 3,
    num_attention_heads: 6,
    max_position_embeddings: promptTokens,
    eos_token_id: 2,
  });

/**
 * Stable Diffusion 2.1's U-Net in small: transformers at every resolution, 16, 8 and 4, one residual block a level going down
 * and two going up. Chosen: what two cores train in half a day.
 */
export const teacherConfig = parseUNetConfig({
  sample_size: latentSize,
  in_channels: latentChannels,
  out_channels: latentChannels,
  block_out_channels: [96, 160, 192],
  layers_per_block: 1,
  down_block_types: ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
  mid_block_type: "UNetMidBlock2DCrossAttn",
  up_block_types: ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
  cross_attention_dim: 192,
  attention_head_dim: [3, 5, 6],
  use_linear_projection: true,
});
