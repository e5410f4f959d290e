import { MalformedFileError, SdxsError, readJson, type ModelFiles } from "@sdxs/tensor";
import { inMessages } from "./in-messages.js";
import type { AddedToken } from "../clip/added-tokens.js";
import { formerAddedTokens, type TokenizerClass } from "../clip/tokenizer-settings.js";
import { loadTokenizer, type PromptTokenizer, type TokenizerConfig, type TokenizerFiles } from "../clip/tokenizer.js";

const vocabFile = "vocab.json";
const mergesFile = "merges.txt";
const tokenizerFile = "tokenizer.json";
const configFile = "tokenizer_config.json";
const specialTokensFile = "special_tokens_map.json";
const addedTokensFile = "added_tokens.json";

/**
 * Reads CLIP's tokenizer, as transformers saves one: vocab.json and merges.txt, or else tokenizer.json, with
 * tokenizer_config.json, special_tokens_map.json and added_tokens.json where they are.
 *
 * @param className the class of transformers that is to read it; by default the one that tokenizer_config.json names. A
 * CLIPTokenizerFast prefers tokenizer.json.
 * @throws SdxsError, with the place in its message: MISSING_FILE, MALFORMED_FILE or FILE_FAILURE.
 */
export async function readTokenizer(files: ModelFiles, className?: string): Promise<PromptTokenizer> {
  const all = [vocabFile, mergesFile, tokenizerFile, configFile, specialTokensFile, addedTokensFile];
  const present = await files.list(all);
  const readObject = async (name: string): Promise<object> => {
    if (!present.includes(name)) return {};
    const json = await readJson(files, name);
    if (typeof json === "object" && json !== null && !Array.isArray(json)) return json;
    throw new MalformedFileError(`${files.location(name)} must hold an object. Fetch it again.`);
  };
  const config = await readObject(configFile);
  // As in transformers: folders of before its version 4.34 give special tokens twice, and the map's count.
  const isFormer = !("added_tokens_decoder" in config);
  const tokenizerConfig: TokenizerConfig = {
    ...config,
    ...(isFormer && (await readObject(specialTokensFile))),
    ...(className !== undefined && { tokenizer_class: className }),
  };
  const addedTokens = isFormer ? ((await readObject(addedTokensFile)) as Record<string, number>) : {};
  const common = { tokenizerConfig, ...(Object.keys(addedTokens).length > 0 && { addedTokens }) };

  let content: TokenizerFiles;
  const hasClipFiles = present.includes(vocabFile) && present.includes(mergesFile);
  const isFast = tokenizerConfig.tokenizer_class === "CLIPTokenizerFast";
  if (hasClipFiles && !(isFast && present.includes(tokenizerFile))) {
    const vocab = (await readObject(vocabFile)) as Record<string, number>;
    content = { vocab, merges: await files.readText(mergesFile), ...common };
    // transformers then takes the added tokens of tokenizer.json, too.
    if (isFormer && present.includes(tokenizerFile)) {
      content = withJsonTokens(content, await readObject(tokenizerFile));
    }
  } else if (present.includes(tokenizerFile)) {
    content = { tokenizerJson: await readObject(tokenizerFile), ...common };
  } else {
    throw new SdxsError(
      "MISSING_FILE",
      `${files.location()} has neither ${vocabFile} and ${mergesFile} nor ${tokenizerFile}. Fetch them, or check the path.`,
    );
  }
  return inMessages(files.location(), () => loadTokenizer(content));
}

/** Former files with the added tokens of a tokenizer.json beside them. */
function withJsonTokens(
  files: TokenizerFiles,
  tokenizerJson: { readonly added_tokens?: readonly AddedToken[] },
): TokenizerFiles {
  const { tokenizerConfig = {}, addedTokens = {}, ...others } = files;
  const tokens = [...formerAddedTokens(addedTokens, tokenizerConfig), ...(tokenizerJson.added_tokens ?? [])];
  const decoder = Object.fromEntries(tokens.map(({ id, ...token }) => [id, token]));
  return { ...others, tokenizerConfig: { ...tokenizerConfig, added_tokens_decoder: decoder } };
}

/** The class of transformers that reads the files which a tokenizer was loaded from. */
export function tokenizerClass({ files }: PromptTokenizer): TokenizerClass {
  const isFast = !("vocab" in files) || files.tokenizerConfig?.tokenizer_class === "CLIPTokenizerFast";
  return isFast ? "CLIPTokenizerFast" : "CLIPTokenizer";
}
