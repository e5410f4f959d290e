import { controlNetFromUNet, controlNetParameters } from "@sdxs/controlnet";
import { loraParameters, type Lora, type LoraTarget } from "@sdxs/lora";
import { mapTensors, random, type HostParams, type HostTensor } from "@sdxs/tensor";
import type { AutoencoderTinyConfig } from "@sdxs/tiny-vae";
import { expect } from "vitest";
import type { TextToImageComponents } from "../checkpoints/components.js";
import { randomWeights as weights, tinyPipeline as components } from "./tiny-pipeline.test-support.js";

export { components, weights };
export const {
  tokenizer,
  text_encoder: { config: textConfig },
  unet: { config: unetConfig },
} = components;
export const vaeConfig = components.vae.config as AutoencoderTinyConfig;
export const controlConfig = controlNetFromUNet(unetConfig, { conditioning_embedding_out_channels: [4, 4] }).config;
/** A LoRA that is not zero, as a trained one. */
export function randomLora(params: HostParams, targets: LoraTarget[], seed: number): Lora<HostTensor> {
  const declared = loraParameters(params, { rank: 2, targets });
  return { ...declared, params: mapTensors(declared.params, ({ shape }, name) => random(seed, name).normal(shape)) };
}
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
