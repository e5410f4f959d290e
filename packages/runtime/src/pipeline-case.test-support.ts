import { controlNetFromUNet, controlNetParameters } from "@sdxs/controlnet";
import { loraParameters, type Lora, type LoraTarget } from "@sdxs/lora";
import { HostTensor, mapTensors, random, type HostParams, type ParameterSpec } from "@sdxs/tensor";
import { parseUNetConfig, unetParameters } from "@sdxs/tiny-unet";
import { autoencoderTinyParameters, parseAutoencoderTinyConfig } from "@sdxs/tiny-vae";
import { expect } from "vitest";
import type { TextToImageComponents } from "./pipeline.js";
import { parseTextEncoderConfig, textEncoderParameters } from "./text-encoder.js";
import { loadTokenizer } from "./tokenizer.js";

const words = ["r", "e", "d", "d</w>", "re", "red</w>", "<|startoftext|>", "<|endoftext|>"];
export const tokenizer = loadTokenizer({
  vocab: Object.fromEntries(words.map((word, id) => [word, id])),
  merges: "r e\nre d</w>",
  tokenizerConfig: { model_max_length: 6 },
});
export const textConfig = parseTextEncoderConfig({
  vocab_size: tokenizer.vocabularySize,
  hidden_size: 8,
  intermediate_size: 16,
  num_hidden_layers: 1,
  num_attention_heads: 1,
  max_position_embeddings: 6,
  eos_token_id: tokenizer.endId,
});
export const unetConfig = parseUNetConfig({
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
export const vaeConfig = parseAutoencoderTinyConfig({
  encoder_block_out_channels: [4, 4],
  decoder_block_out_channels: [4, 4],
  num_encoder_blocks: [1, 1],
  num_decoder_blocks: [1, 1],
});
export const controlConfig = controlNetFromUNet(unetConfig, { conditioning_embedding_out_channels: [4, 4] }).config;
/** Not zero even where a new model begins with zeros. */
export const weights = (specs: Readonly<Record<string, ParameterSpec>>, seed: number): HostParams =>
  mapTensors(specs, ({ shape }, name) =>
    HostTensor.from(
      shape,
      random(seed, name)
        .normal(shape)
        .data.map((value) => 0.2 * value),
    ),
  );
/** A LoRA that is not zero, as a trained one. */
export function randomLora(params: HostParams, targets: LoraTarget[], seed: number): Lora<HostTensor> {
  const declared = loraParameters(params, { rank: 2, targets });
  return { ...declared, params: mapTensors(declared.params, ({ shape }, name) => random(seed, name).normal(shape)) };
}
export const components: TextToImageComponents = {
  tokenizer,
  text_encoder: {
    className: "CLIPTextModel",
    config: textConfig,
    params: weights(textEncoderParameters(textConfig), 1),
  },
  unet: { className: "UNet2DConditionModel", config: unetConfig, params: weights(unetParameters(unetConfig), 2) },
  vae: { className: "AutoencoderTiny", config: vaeConfig, params: weights(autoencoderTinyParameters(vaeConfig), 3) },
  scheduler: {
    _class_name: "DEISMultistepScheduler",
    beta_start: 0.00085,
    beta_end: 0.012,
    beta_schedule: "scaled_linear",
    prediction_type: "v_prediction",
  },
};
export const controlled: TextToImageComponents = {
  ...components,
  controlnet: [
    { className: "ControlNetModel", config: controlConfig, params: weights(controlNetParameters(controlConfig), 4) },
  ],
};
export const noise = random(9).normal([2, 4, 4, 6]);
export const prompts = ["red", "red red"];

export function expectClose(actual: HostTensor, expected: HostTensor): void {
  expect(actual.shape).toEqual(expected.shape);
  const differences = Array.from(expected.data, (value, i) => Math.abs(value - actual.data[i]!));
  expect(Math.max(...differences)).toBeLessThan(1e-4);
}
