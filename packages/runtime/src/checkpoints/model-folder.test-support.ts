import { copyFile, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { ModelClassName } from "./model-classes.js";

/** Where reference data of other packages lie. */
export const packages = fileURLToPath(new URL("../../../", import.meta.url));

/** Reference data of diffusers and transformers: a class, a configuration, weights, and their name in a folder. */
export type ModelCase = readonly [className: ModelClassName, config: string, weights: string, stem: string];

/** One for each class. */
export const modelCases = [
  ["UNet2DConditionModel", "tiny-unet/fixtures/unet_sdxs_mini/config.json", "weights", "diffusion_pytorch_model"],
  [
    "ControlNetModel",
    "controlnet/fixtures/controlnet_sdxs_mini/controlnet_config.json",
    "controlnet",
    "diffusion_pytorch_model",
  ],
  ["AutoencoderKL", "tiny-vae/fixtures/vae_kl_mini/config.json", "weights", "diffusion_pytorch_model"],
  ["AutoencoderTiny", "tiny-vae/fixtures/taesd_small/config.json", "weights", "diffusion_pytorch_model"],
  ["CLIPTextModel", "runtime/fixtures/clip_gelu/config.json", "weights", "model"],
  ["CLIPTextModelWithProjection", "runtime/fixtures/clip_gelu_proj/config.json", "weights", "model"],
] as const satisfies readonly ModelCase[];

export const weightsPath = (config: string, name: string): string =>
  join(packages, config, "..", `${name}.safetensors`);

export const readJson = async (path: string): Promise<Record<string, unknown>> =>
  JSON.parse(await readFile(path, "utf8")) as Record<string, unknown>;

/** Lays a case out as from_pretrained finds it, and gives its configuration. */
export async function layOut(
  folder: string,
  [className, config, weights, stem]: ModelCase,
): Promise<Record<string, unknown>> {
  const json = await readJson(join(packages, config));
  // The reference text encoders were saved before a class was written into their configuration.
  const named = stem === "model" ? { ...json, architectures: [className] } : json;
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "config.json"), JSON.stringify(named));
  await copyFile(weightsPath(config, weights), join(folder, `${stem}.safetensors`));
  return named;
}
