import { basename } from "node:path";
import { readTextualInversion, type TextualInversion } from "@sdxs/runtime";
import { readSafetensorsFile } from "@sdxs/tensor/node";

export const embeddingUsage = `  --embedding FILE[=TOKEN]  a textual inversion, a .safetensors file, for prompts with its token; may be repeated;
                        default: the token that the file names, or else the file's name`;

/** Textual inversions as the option names them. Throws what `readTextualInversion` throws. */
export function readEmbeddings(named: readonly string[]): Promise<TextualInversion[]> {
  return Promise.all(
    named.map(async (option) => {
      const [, path = option, token] = /^(.*\.safetensors)=(.*)$/.exec(option) ?? [];
      const { tensors } = await readSafetensorsFile(path);
      const names = Object.keys(tensors);
      const namesToken = names.length === 1 && names[0] !== "emb_params";
      return readTextualInversion(tensors, token ?? (namesToken ? undefined : basename(path, ".safetensors")));
    }),
  );
}
