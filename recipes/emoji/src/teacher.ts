import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseTextEncoderConfig, type PromptTokenizer, type TextEncoderConfig } from "@sdxs/runtime";
import { checkParameters, MalformedFileError, SdxsError, type HostParams, type ParameterSpec } from "@sdxs/tensor";
import { readSafetensorsFile } from "@sdxs/tensor/node";
import { parseUNetConfig, unetParameters, type UNetConfig } from "@sdxs/tiny-unet";
import { autoencoderKlParameters, parseAutoencoderKlConfig, type AutoencoderKlConfig } from "@sdxs/tiny-vae";
import { textEncoderParameters } from "@sdxs/runtime";
import { readTokenizer } from "./tokenizer.js";

/** The multi-step model that everything is distilled from, trained by `npm run recipe:emoji -- teacher`. */
export const teacherFolder = fileURLToPath(new URL("../teacher", import.meta.url));

export interface Teacher {
  readonly tokenizer: PromptTokenizer;
  readonly textEncoder: { readonly config: TextEncoderConfig; readonly params: HostParams };
  readonly unet: { readonly config: UNetConfig; readonly params: HostParams };
  readonly autoencoder: { readonly config: AutoencoderKlConfig; readonly params: HostParams };
}

/**
 * Reads a teacher from its diffusers folder.
 *
 * @throws SdxsError `MISSING_FILE`, MalformedFileError for a damaged file, ParameterError where weights and config differ.
 */
export async function readTeacher(folder: string = teacherFolder): Promise<Teacher> {
  const [textEncoder, unet, autoencoder] = await Promise.all([
    readModel(join(folder, "text_encoder"), "model", parseTextEncoderConfig, textEncoderParameters),
    readModel(join(folder, "unet"), "diffusion_pytorch_model", parseUNetConfig, unetParameters),
    readModel(join(folder, "vae"), "diffusion_pytorch_model", parseAutoencoderKlConfig, autoencoderKlParameters),
  ]);
  return { tokenizer: await readTokenizer(join(folder, "tokenizer")), textEncoder, unet, autoencoder };
}

async function readModel<C>(
  folder: string,
  weightsName: string,
  parse: (json: unknown) => C,
  parametersOf: (config: C) => Record<string, ParameterSpec>,
): Promise<{ readonly config: C; readonly params: HostParams }> {
  const config = parse(await readJson(join(folder, "config.json")));
  const { tensors } = await readSafetensorsFile(join(folder, `${weightsName}.safetensors`));
  checkParameters(parametersOf(config), tensors);
  return { config, params: tensors };
}

async function readJson(path: string): Promise<unknown> {
  const text = await readFile(path, "utf8").catch((cause: unknown) => {
    throw new SdxsError("MISSING_FILE", `Cannot read ${path}. Restore the folder from the repository.`, { cause });
  });
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new MalformedFileError(`${path} is not JSON. Restore it from the repository.`, { cause });
  }
}
