import { SdxsError, readJson, type ModelFiles } from "@sdxs/tensor";
import { inMessages } from "./in-messages.js";
import { loadTokenizer, type PromptTokenizer, type TokenizerConfig, type TokenizerFiles } from "./tokenizer.js";

const vocabFile = "vocab.json";
const mergesFile = "merges.txt";
const tokenizerFile = "tokenizer.json";
const configFile = "tokenizer_config.json";
const specialTokensFile = "special_tokens_map.json";

/**
 * Reads CLIP's tokenizer, as transformers saves one: vocab.json and merges.txt, or else tokenizer.json, with
 * tokenizer_config.json and special_tokens_map.json where they are.
 *
 * @throws SdxsError, with the place in its message: MISSING_FILE, MALFORMED_FILE or FILE_FAILURE.
 */
export async function readTokenizer(files: ModelFiles): Promise<PromptTokenizer> {
  const present = await files.list([vocabFile, mergesFile, tokenizerFile, configFile, specialTokensFile]);
  const readObject = async (name: string): Promise<object> => {
    const json = present.includes(name) ? await readJson(files, name) : undefined;
    return typeof json === "object" && json !== null ? json : {};
  };
  const config = await readObject(configFile);
  // As in transformers: folders of before its version 4.34 give special tokens twice, and the map's count.
  const isFormer = !("added_tokens_decoder" in config);
  const tokenizerConfig: TokenizerConfig = { ...config, ...(isFormer && (await readObject(specialTokensFile))) };

  let content: TokenizerFiles;
  if (present.includes(vocabFile) && present.includes(mergesFile)) {
    const vocab = (await readObject(vocabFile)) as Record<string, number>;
    content = { vocab, merges: await files.readText(mergesFile), tokenizerConfig };
  } else if (present.includes(tokenizerFile)) {
    content = { tokenizerJson: await readObject(tokenizerFile), tokenizerConfig };
  } else {
    throw new SdxsError(
      "MISSING_FILE",
      `${files.location()} has neither ${vocabFile} and ${mergesFile} nor ${tokenizerFile}. Fetch them, or check the path.`,
    );
  }
  return inMessages(files.location(), () => loadTokenizer(content));
}

/** The class of transformers that reads the files which a tokenizer was loaded from. */
export function tokenizerClass({ files }: PromptTokenizer): "CLIPTokenizer" | "CLIPTokenizerFast" {
  return "vocab" in files ? "CLIPTokenizer" : "CLIPTokenizerFast";
}
