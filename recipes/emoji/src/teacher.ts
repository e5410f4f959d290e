import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { PromptTokenizer } from "@sdxs/runtime";
import { loadModel, type Model, type ModelClassName } from "@sdxs/runtime/node";
import { readTokenizer } from "./tokenizer.js";

/** The multi-step model that everything is distilled from, trained by `npm run recipe:emoji -- teacher`. */
export const teacherFolder = fileURLToPath(new URL("../teacher", import.meta.url));

type Network<N extends ModelClassName> = Pick<Model<N>, "config" | "params">;

export interface Teacher {
  readonly tokenizer: PromptTokenizer;
  readonly textEncoder: Network<"CLIPTextModel">;
  readonly unet: Network<"UNet2DConditionModel">;
  readonly autoencoder: Network<"AutoencoderKL">;
}

/**
 * Reads a teacher from its diffusers folder.
 *
 * @throws SdxsError as `loadModel` and `readTokenizer`.
 */
export async function readTeacher(folder: string = teacherFolder): Promise<Teacher> {
  const [textEncoder, unet, autoencoder] = await Promise.all([
    loadModel(join(folder, "text_encoder"), { className: "CLIPTextModel" }),
    loadModel(join(folder, "unet"), { className: "UNet2DConditionModel" }),
    loadModel(join(folder, "vae"), { className: "AutoencoderKL" }),
  ]);
  return { tokenizer: await readTokenizer(join(folder, "tokenizer")), textEncoder, unet, autoencoder };
}
