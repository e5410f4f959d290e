import { fileURLToPath } from "node:url";
import { readLora } from "@sdxs/lora";
import { readSafetensorsFile } from "@sdxs/tensor/node";
import { expect, it } from "vitest";
import { readStudent } from "../shipped.js";

it.each(["3d", "line"])("the shipped LoRA %s has diffusers' names, and fits the shipped student", async (style) => {
  const file = await readSafetensorsFile(
    fileURLToPath(new URL(`../../loras/lora-${style}.safetensors`, import.meta.url)),
  );
  // As diffusers' save_lora_weights: its own names for attention, PEFT's for all else.
  const names = /^unet\..+(attn\d\.to_(q|k|v|out\.0)\.lora\.(down|up)|\.lora_[AB])\.weight$/;
  expect(Object.keys(file.tensors).filter((name) => !names.test(name))).toEqual([]);
  const { loras } = readLora(file, { unet: (await readStudent()).unet.params });
  expect(Object.keys(loras.unet.params).length).toBe(Object.keys(file.tensors).length);
});
