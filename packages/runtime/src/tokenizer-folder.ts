import { mkdir, readFile, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { SdxsError } from "@sdxs/tensor";
import { readJsonFile, replaceFiles } from "@sdxs/tensor/node";
import { inMessages } from "./in-messages.js";
import { loadTokenizer, type PromptTokenizer, type TokenizerConfig, type TokenizerFiles } from "./tokenizer.js";

/** What transformers also keeps in special_tokens_map.json. */
const SPECIAL_TOKENS = ["bos_token", "eos_token", "unk_token", "pad_token"] as const;

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
  const present = await readdir(folder).catch((cause: unknown): never => {
    throw new SdxsError("MISSING_FILE", `There is no folder at ${folder}. Check the path.`, { cause });
  });
  const readJson = async (name: string): Promise<object> => {
    const json = present.includes(name) ? await readJsonFile(join(folder, name)) : undefined;
    return typeof json === "object" && json !== null ? json : {};
  };
  const config = await readJson("tokenizer_config.json");
  // As in transformers: folders of before its version 4.34 give special tokens twice, and the map's count.
  const isFormer = !("added_tokens_decoder" in config);
  const tokenizerConfig: TokenizerConfig = { ...config, ...(isFormer && (await readJson("special_tokens_map.json"))) };

  let files: TokenizerFiles;
  if (present.includes("vocab.json") && present.includes("merges.txt")) {
    const vocab = (await readJson("vocab.json")) as Record<string, number>;
    files = { vocab, merges: await readText(join(folder, "merges.txt")), tokenizerConfig };
  } else if (present.includes("tokenizer.json")) {
    files = { tokenizerJson: await readJson("tokenizer.json"), tokenizerConfig };
  } else {
    throw new SdxsError(
      "MISSING_FILE",
      `${folder} has neither vocab.json and merges.txt nor tokenizer.json. Fetch them, or check the path.`,
    );
  }
  return inMessages(folder, () => loadTokenizer(files));
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
  const { tokenizerConfig = {}, ...files } = tokenizer.files;
  const config = {
    tokenizer_class: tokenizerClass(tokenizer),
    ...tokenizerConfig,
    model_max_length: tokenizer.maximumLength,
  };
  const specialTokens = Object.entries(config).filter(([name]) => SPECIAL_TOKENS.some((special) => special === name));
  const contents: Record<string, string> = {
    ...("vocab" in files
      ? { "vocab.json": json(files.vocab), "merges.txt": mergesText(files.merges) }
      : { "tokenizer.json": json(files.tokenizerJson) }),
    "special_tokens_map.json": json(Object.fromEntries(specialTokens)),
    "tokenizer_config.json": json(config),
  };
  await mkdir(folder, { recursive: true });
  await replaceFiles(Object.entries(contents).map(([name, text]) => ({ path: join(folder, name), chunks: [text] })));
  for (const name of ["vocab.json", "merges.txt", "tokenizer.json"]) {
    if (!(name in contents)) await rm(join(folder, name), { force: true });
  }
}

/** The class of transformers that reads what `saveTokenizerFolder` writes. */
export function tokenizerClass({ files }: PromptTokenizer): "CLIPTokenizer" | "CLIPTokenizerFast" {
  return "vocab" in files ? "CLIPTokenizer" : "CLIPTokenizerFast";
}

async function readText(path: string): Promise<string> {
  return readFile(path, "utf8").catch((cause: unknown): never => {
    throw new SdxsError("FILE_FAILURE", `Cannot read ${path}: ${String(cause)}`, { cause });
  });
}

const json = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`;

const mergesText = (merges: string | readonly string[]): string =>
  typeof merges === "string" ? merges : `#version: 0.2\n${merges.join("\n")}\n`;
