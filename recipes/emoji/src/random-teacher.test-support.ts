import { parseTextEncoderConfig, textEncoderParameters } from "@sdxs/runtime";
import { initialize, type HostParams } from "@sdxs/tensor";
import { copyParameters, parseUNetConfig, unetParameters } from "@sdxs/tiny-unet";
import { autoencoderKlParameters, parseAutoencoderKlConfig } from "@sdxs/tiny-vae";
import { studentPlan } from "./distil.js";
import { promptTokens } from "./models.js";
import type { Teacher } from "./teacher.js";
import { readTokenizer } from "./tokenizer.js";

/** A teacher of the real one's kind with random weights and few channels. */
export async function randomTeacher(): Promise<Teacher> {
  const tokenizer = await readTokenizer();
  const text = parseTextEncoderConfig({
    vocab_size: tokenizer.vocabularySize,
    hidden_size: 16,
    intermediate_size: 32,
    num_hidden_layers: 1,
    num_attention_heads: 1,
    max_position_embeddings: promptTokens,
  });
  const unet = parseUNetConfig({
    sample_size: 16,
    block_out_channels: [8, 8, 8],
    layers_per_block: 1,
    norm_num_groups: 4,
    down_block_types: ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    up_block_types: ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
    cross_attention_dim: 16,
    attention_head_dim: 1,
  });
  const autoencoder = parseAutoencoderKlConfig({
    block_out_channels: [4, 4, 4],
    norm_num_groups: 2,
    down_block_types: ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"],
    up_block_types: ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"],
    mid_block_add_attention: false,
  });
  return {
    tokenizer,
    textEncoder: { config: text, params: initialize(textEncoderParameters(text), 1) },
    unet: { config: unet, params: initialize(unetParameters(unet), 2) },
    autoencoder: { config: autoencoder, params: initialize(autoencoderKlParameters(autoencoder), 3) },
  };
}

/** The tiny U-Net that a teacher leaves, before it learns. */
export function tinyUNet(teacher: Teacher): HostParams {
  const plan = studentPlan(teacher);
  return { ...initialize(unetParameters(plan.config), 1), ...copyParameters(plan, teacher.unet.params) };
}
