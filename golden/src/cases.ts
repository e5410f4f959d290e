import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import { MalformedFileError } from "@sdxs/tensor";
import { referenceCase, type CaseCheck, type CaseResult, type RunOnce } from "@sdxs/tensor/reference-case";
import { checkControlNetCase } from "../../packages/controlnet/src/controlnet-case.test-support.js";
import { checkSchedulersCase } from "../../packages/diffusion/src/samplers/schedulers-case.test-support.js";
import { checkLoraCase } from "../../packages/lora/src/lora-case.test-support.js";
import { checkLossesCase } from "../../packages/losses/src/losses-case.test-support.js";
import { checkClipModelCase } from "../../packages/runtime/src/clip/clip-model-case.test-support.js";
import { checkTextEncoderCase } from "../../packages/runtime/src/clip/text-encoder-case.test-support.js";
import { checkUNetCase } from "../../packages/tiny-unet/src/unet-case.test-support.js";
import {
  checkAutoencoderKlCase,
  checkAutoencoderTinyCase,
} from "../../packages/tiny-vae/src/autoencoder-cases.test-support.js";
import { checkFullModels } from "./full-models.js";

/** The kinds of cases, by how their folders' names begin. */
const checks: readonly (readonly [folder: RegExp, check: CaseCheck])[] = [
  [/^unet_/, checkUNetCase],
  [/^controlnet_/, checkControlNetCase],
  [/^taesd_/, checkAutoencoderTinyCase],
  [/^vae_kl/, checkAutoencoderKlCase],
  [/^clip_model/, checkClipModelCase],
  [/^clip_/, checkTextEncoderCase],
  [/^lora_/, checkLoraCase],
  [/^losses/, checkLossesCase],
  [/^schedulers/, checkSchedulersCase],
];

/** What checks a folder, on one backend or, for names and shapes alone, on none. undefined: the kind is unknown. */
export type FolderCheck =
  | { readonly needs: "backend"; readonly check: (run: RunOnce) => Promise<CaseResult> }
  | { readonly needs: "nothing"; readonly check: () => Promise<CaseResult> };

export function checkOf(folder: URL): FolderCheck | undefined {
  const name = basename(fileURLToPath(folder));
  if (name.startsWith("full_models")) return { needs: "nothing", check: () => checkFullModels(folder) };
  const [, check] = checks.find(([pattern]) => pattern.test(name)) ?? [];
  if (check === undefined) return undefined;
  return {
    needs: "backend",
    check: async (run) => {
      const reference = referenceCase(folder);
      const problem = await incompleteFile(reference);
      if (problem !== undefined) throw new MalformedFileError(problem);
      return check(reference, run);
    },
  };
}

/** meta.json lists a case's files with their sizes in bytes. */
async function incompleteFile(reference: ReturnType<typeof referenceCase>): Promise<string | undefined> {
  const { files = {} } = (await reference.json("meta.json")) as { readonly files?: Readonly<Record<string, number>> };
  for (const [file, expected] of Object.entries(files)) {
    const bytes = await reference.bytes(file);
    if (bytes === undefined) return `${file} is missing.`;
    if (bytes !== expected) return `${file} has ${bytes} bytes, meta.json lists ${expected}. Copy it again.`;
  }
  return undefined;
}
