import { readLora } from "@sdxs/lora";
import type { PipelineLora } from "@sdxs/runtime";
import { readSafetensorsFile } from "@sdxs/tensor/node";
import { weighed } from "./command-line.js";
import type { OpenPipeline } from "./open-pipeline.js";

export const loraUsage = `  --lora FILE[=WEIGHT]  a LoRA of diffusers, PEFT or kohya, weighed; may be repeated; default weight 1`;

/** LoRAs as the option names them. Throws what `readLora` throws. */
export function readLoras(
  named: readonly string[],
  { unet, text_encoder: text }: OpenPipeline["components"],
): Promise<PipelineLora[]> {
  return Promise.all(
    named.map(async (option) => {
      const { path, weight } = weighed("--lora", option);
      const { loras } = readLora(await readSafetensorsFile(path), { unet: unet.params, text_encoder: text.params });
      return { ...loras, weight };
    }),
  );
}
