import { existsSync } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { readLora, type LoraModels } from "@sdxs/lora";
import type { PipelineLora } from "@sdxs/runtime";
import { SdxsError } from "@sdxs/tensor";
import { readJsonFile, readSafetensorsFile } from "@sdxs/tensor/node";
import { finite } from "./command-line.js";
import type { OpenPipeline } from "./open-pipeline.js";
import { warner, type Terminal } from "./terminal.js";

export const loraUsage = `  --lora FILE[=WEIGHT]  a LoRA of diffusers, PEFT (with its adapter_config.json beside it) or kohya, or the folder of one,
                        weighed; may be repeated; default weight 1`;

/** What PEFT and diffusers call a LoRA's file in its folder, in the order in which they are looked for. */
const usualFiles = ["adapter_model.safetensors", "pytorch_lora_weights.safetensors"];
const configFile = "adapter_config.json";

/** LoRAs as the option names them. Throws what `readLora` throws. */
export function readLoras(
  named: readonly string[],
  { unet, text_encoder: text, text_encoder_2: second }: OpenPipeline["components"],
  terminal: Terminal,
): Promise<PipelineLora[]> {
  const models: LoraModels<"unet" | "text_encoder"> = {
    unet: unet.params,
    text_encoder: text.params,
    ...(second && { text_encoder_2: second.params }),
  };
  const warn = warner(terminal);
  return Promise.all(
    named.map(async (option) => {
      const { path, weight } = splitWeight(option);
      const file = await loraFile(path);
      const config = join(dirname(file), configFile);
      const adapterConfig = existsSync(config) ? { adapterConfig: await readJsonFile(config) } : {};
      const { loras, warnings } = readLora({ ...(await readSafetensorsFile(file)), ...adapterConfig }, models);
      for (const { message } of warnings) warn(`${file}: ${message}`);
      return { ...loras, weight: finite("--lora's weight", weight) };
    }),
  );
}

/** "style.safetensors=0.8", or "style=0.8" for a folder. */
function splitWeight(option: string): { readonly path: string; readonly weight: string } {
  const [, path, weight] =
    /^(.*\.safetensors)=(.*)$/.exec(option) ?? (existsSync(option) ? null : /^(.+)=([-+.\de]*)$/i.exec(option)) ?? [];
  return path === undefined || weight === undefined ? { path: option, weight: "1" } : { path, weight };
}

/** The file itself, or that of a folder. */
async function loraFile(path: string): Promise<string> {
  const isFolder = await stat(path).then(
    (found) => found.isDirectory(),
    () => false, // reading it says what is wrong
  );
  if (!isFolder) return path;
  const names = (await readdir(path)).filter((name) => name.endsWith(".safetensors")).sort();
  const name = usualFiles.find((usual) => names.includes(usual)) ?? (names.length === 1 ? names[0] : undefined);
  if (name !== undefined) return join(path, name);
  throw new SdxsError(
    "MISSING_FILE",
    `--lora ${path}: expected ${usualFiles.join(" or ")} in this folder, or a single other file; it has ` +
      `${names.join(", ") || "no .safetensors file"}. Name the file.`,
  );
}
