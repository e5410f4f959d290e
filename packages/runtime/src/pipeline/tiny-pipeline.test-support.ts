import { HostTensor, mapTensors, random, type HostParams, type ParameterSpec } from "@sdxs/tensor";
import { parseUNetConfig, unetParameters } from "@sdxs/tiny-unet";
import { autoencoderTinyParameters, parseAutoencoderTinyConfig } from "@sdxs/tiny-vae";
import type { TextToImageComponents } from "../checkpoints/components.js";
import { parseTextEncoderConfig, textEncoderParameters } from "../clip/text-encoder.js";
import { loadTokenizer } from "../clip/tokenizer.js";

/** Not zero even where a new model begins with zeros. */
export const randomWeights = (specs: Readonly<Record<string, ParameterSpec>>, seed: number): HostParams =>
  mapTensors(specs, ({ shape }, name) =>
    HostTensor.from(
      shape,
      random(seed, name)
        .normal(shape)
        .data.map((value) => 0.2 * value),
    ),
  );

const words = ["r", "e", "d", "d</w>", "re", "red</w>", "<|startoftext|>", "<|endoftext|>"];
const tokenizer = loadTokenizer({
  vocab: Object.fromEntries(words.map((word, id) => [word, id])),
  merges: "r e\nre d</w>",
  tokenizerConfig: { model_max_length: 6 },
});
const textConfig = parseTextEncoderConfig({
  vocab_size: tokenizer.vocabularySize,
  hidden_size: 8,
  intermediate_size: 16,
  num_hidden_layers: 1,
  num_attention_heads: 1,
  max_position_embeddings: 6,
  eos_token_id: tokenizer.endId,
});
const unetConfig = parseUNetConfig({
  sample_size: [4, 6],
  block_out_channels: [8, 8],
  layers_per_block: 1,
  norm_num_groups: 4,
  down_block_types: ["DownBlock2D", "CrossAttnDownBlock2D"],
  up_block_types: ["CrossAttnUpBlock2D", "UpBlock2D"],
  mid_block_type: null,
  cross_attention_dim: 8,
  attention_head_dim: 1,
});
const vaeConfig = parseAutoencoderTinyConfig({
  encoder_block_out_channels: [4, 4],
  decoder_block_out_channels: [4, 4],
  num_encoder_blocks: [1, 1],
  num_decoder_blocks: [1, 1],
});
/** A whole pipeline with random weights, for pictures of 12 x 8 pixels. It knows the word "red". */
export const tinyPipeline: TextToImageComponents = {
  tokenizer,
  text_encoder: {
    className: "CLIPTextModel",
    config: textConfig,
    params: randomWeights(textEncoderParameters(textConfig), 1),
  },
  unet: { className: "UNet2DConditionModel", config: unetConfig, params: randomWeights(unetParameters(unetConfig), 2) },
  vae: {
    className: "AutoencoderTiny",
    config: vaeConfig,
    params: randomWeights(autoencoderTinyParameters(vaeConfig), 3),
  },
  scheduler: {
    _class_name: "DEISMultistepScheduler",
    beta_start: 0.00085,
    beta_end: 0.012,
    beta_schedule: "scaled_linear",
    prediction_type: "v_prediction",
  },
};
