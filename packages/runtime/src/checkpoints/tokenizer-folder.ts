import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { formatJson } from "@sdxs/tensor";
import { diskFiles, replaceFiles } from "@sdxs/tensor/node";
import { readTokenizer, tokenizerClass } from "./open-tokenizer.js";
import type { PromptTokenizer } from "../clip/tokenizer.js";

/** What transformers also keeps in special_tokens_map.json. */
const SPECIAL_TOKENS = ["bos_token", "eos_token", "unk_token", "pad_token", "additional_special_tokens"] as const;

/**
 * Loads CLIP's tokenizer from its folder, as transformers saves one: vocab.json and merges.txt, or else tokenizer.json,
 * with tokenizer_config.json and special_tokens_map.json where they are.
 *
 * @throws SdxsError, with the folder in its message: MISSING_FILE, MALFORMED_FILE or FILE_FAILURE.
 *
 * @example
 * const tokenizer = await loadTokenizerFolder("sdxs-512/tokenizer");
 */
export async function loadTokenizerFolder(folder: string): Promise<PromptTokenizer> {
  return readTokenizer(diskFiles(folder));
}

/**
 * Saves a tokenizer so that transformers reads it, in the files of the kind that it was loaded from. Makes the folder.
 *
 * @throws SdxsError FILE_FAILURE; the folder is then as it was.
 *
 * @example
 * await saveTokenizerFolder("mine/tokenizer", tokenizer);
 */
export async function saveTokenizerFolder(folder: string, tokenizer: PromptTokenizer): Promise<void> {
  const { tokenizerConfig = {}, addedTokens, ...files } = tokenizer.files;
  const config = {
    ...tokenizerConfig,
    tokenizer_class: tokenizerClass(tokenizer),
    model_max_length: tokenizer.maximumLength,
  };
  const specialTokens = Object.entries(config).filter(([name]) => SPECIAL_TOKENS.some((special) => special === name));
  const contents: Record<string, string> = {
    ...("vocab" in files
      ? { "vocab.json": json(files.vocab), "merges.txt": mergesText(files.merges) }
      : { "tokenizer.json": json(files.tokenizerJson) }),
    ...(addedTokens && { "added_tokens.json": json(addedTokens) }),
    "special_tokens_map.json": json(Object.fromEntries(specialTokens)),
    "tokenizer_config.json": json(config),
  };
  await mkdir(folder, { recursive: true });
  await replaceFiles(Object.entries(contents).map(([name, text]) => ({ path: join(folder, name), chunks: [text] })));
  for (const name of ["vocab.json", "merges.txt", "tokenizer.json", "added_tokens.json"]) {
    if (!(name in contents)) await rm(join(folder, name), { force: true });
  }
}

const json = (value: unknown): string => `${formatJson(value, 2)}\n`;

const mergesText = (merges: string | readonly string[]): string =>
  typeof merges === "string" ? merges : `#version: 0.2\n${merges.join("\n")}\n`;
