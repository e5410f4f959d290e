import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { loadTokenizer, type PromptTokenizer, type TokenizerConfig } from "@sdxs/runtime";
import { MalformedFileError, SdxsError } from "@sdxs/tensor";
import { dataFolder } from "./data.js";

/** The folder of the recipe's tokenizer, in diffusers' layout: a saved pipeline takes its files as they are. */
export const tokenizerFolder = join(dataFolder, "tokenizer");
export const tokenizerFiles = ["vocab.json", "merges.txt", "tokenizer_config.json"] as const;

/**
 * The recipe's own tokenizer: CLIP's format, 2,048 tokens learned from the captions.
 *
 * @throws SdxsError `MISSING_FILE`, MalformedFileError.
 */
export async function readTokenizer(folder: string = tokenizerFolder): Promise<PromptTokenizer> {
  const [vocab, merges, config] = await Promise.all(tokenizerFiles.map((name) => readText(folder, name)));
  return loadTokenizer({
    vocab: parse(vocab, "vocab.json") as Record<string, number>,
    merges: merges ?? "",
    tokenizerConfig: parse(config, "tokenizer_config.json") as TokenizerConfig,
  });
}

async function readText(folder: string, name: string): Promise<string> {
  try {
    return await readFile(join(folder, name), "utf8");
  } catch (cause) {
    throw new SdxsError(
      "MISSING_FILE",
      `readTokenizer: cannot read ${name}. Restore recipes/emoji/data, or rebuild it with: npm run recipe:pack`,
      { cause },
    );
  }
}

function parse(text: string | undefined, name: string): unknown {
  try {
    return JSON.parse(text ?? "");
  } catch (cause) {
    throw new MalformedFileError(`readTokenizer: ${name} is not JSON.`, { cause });
  }
}
