import { Tokenizer } from "@huggingface/tokenizers";
import { HostTensor, InvalidArgumentError, MalformedFileError } from "@sdxs/tensor";
import { clipSections, fastClipSections, type AddedToken, type SectionSplitter } from "./added-tokens.js";
import { clipPieces, textOfPieces, type PieceSplitter } from "./clip-byte-pairs.js";
import { clipTokenizerJson } from "./clip-tokenizer-json.js";
import {
  addedToken,
  formerAddedTokens,
  tokenizerSettings,
  type TokenizerClass,
  type TokenizerConfig,
} from "./tokenizer-settings.js";

export type { AddedToken, TokenizerConfig };

/** The parsed files of a `tokenizer` folder: the new kind (`tokenizer.json`), or CLIP's own two files. */
export type TokenizerFiles =
  | ({ readonly tokenizerJson: object } & CommonFiles)
  | ({
      /** `vocab.json`: the id of each token. */
      readonly vocab: Readonly<Record<string, number>>;
      /** The text of `merges.txt`, or its pairs: "r e". */
      readonly merges: string | readonly string[];
    } & CommonFiles);

interface CommonFiles {
  readonly tokenizerConfig?: TokenizerConfig;
  /** `added_tokens.json`, which former folders have: ids of added tokens. "added_tokens_decoder" goes before it. */
  readonly addedTokens?: Readonly<Record<string, number>>;
}

export interface EncodedPrompt {
  /** begin, the prompt, end, padding. */
  readonly ids: Int32Array<ArrayBuffer>;
  /** Tokens before the padding, with begin and end. */
  readonly length: number;
  /** Whether the prompt was too long and lost its last words: worth a warning. */
  readonly truncated: boolean;
  /** The words that were lost, in lower case as the tokenizer decodes them; "" where none were. */
  readonly lost: string;
}

/** Turns prompts into the ids that a text encoder takes. */
export interface PromptTokenizer {
  /** What it was loaded from. */
  readonly files: TokenizerFiles;
  /** One more than the largest id: so many rows a text encoder's table of tokens needs. */
  readonly vocabularySize: number;
  /** Default number of ids of an encoded prompt, see `encode`. */
  readonly maximumLength: number;
  readonly beginId: number;
  readonly endId: number;
  readonly paddingId: number;
  /** Tokens that are looked for in a prompt as a whole: special ones, and those added by training, as "sks". By id. */
  readonly addedTokens: readonly AddedToken[];
  /**
   * @param maximumLength ids to return; at least 2. A text encoder takes at most as many as it has positions.
   */
  encode(prompt: string, maximumLength?: number): EncodedPrompt;
  /** Stacks encoded prompts: int32, [prompts, maximumLength]. Cut prompts stay unnoticed: use `encode` to see them. */
  encodeBatch(prompts: readonly string[], maximumLength?: number): HostTensor;
  /** The pieces of a prompt, without begin and end: "a photo" gives ["a</w>", "photo</w>"]. */
  tokenize(prompt: string): string[];
  /**
   * This tokenizer with further tokens, which get the next ids, as transformers' `add_tokens` does it.
   *
   * @throws InvalidArgumentError where it has one of them already.
   */
  withTokens(contents: readonly string[]): PromptTokenizer;
}

/**
 * Builds CLIP's tokenizer from the parsed files of a diffusers `tokenizer` folder, as the class of transformers that they are
 * for: `CLIPTokenizer` for vocab.json and merges.txt, `CLIPTokenizerFast` for tokenizer.json or where the configuration says
 * so. Both give the same ids but for Chinese characters, which the first sets apart, control characters, which it drops, and
 * the case of added tokens. Neither repairs broken encodings nor HTML entities, as ftfy does for the first where it is
 * installed.
 *
 * @throws MalformedFileError when the files are no tokenizer, lack the begin, end or padding token, or contradict each other;
 * UnsupportedConfigError for a tokenizer of another class, or one that pads or cuts on the left.
 *
 * @example
 * const tokenizer = loadTokenizer({ vocab, merges, tokenizerConfig });
 * const { ids, truncated } = tokenizer.encode("a photo of a cat"); // Int32Array(77) [49406, 320, 1125, ..., 49407]
 */
export function loadTokenizer(files: TokenizerFiles): PromptTokenizer {
  const config = files.tokenizerConfig ?? {};
  const { vocab, listed } = "vocab" in files ? { vocab: files.vocab, listed: [] } : jsonTokens(files);
  const vocabulary = new Map(Object.entries(vocab));
  const settings = tokenizerSettings(config, "vocab" in files, [...listed, ...formerTokens(files)], vocabulary);
  const addedTokens = settings.addedTokens;
  const whole = addedTokens.filter((token) => !settings.isSplit(token));
  const { sections, pieces } = splitters(files, settings.className, settings.unknown, whole);
  const ids: ReadonlyMap<string, number> = new Map([
    ...vocabulary,
    ...addedTokens.map(({ content, id }) => [content, id] as const),
  ]);
  const idOfPiece = (piece: string): number => {
    const id = ids.get(piece) ?? ids.get(settings.unknown);
    if (id !== undefined) return id;
    throw new MalformedFileError(
      `PromptTokenizer: the vocabulary has neither ${JSON.stringify(piece)} nor the unknown token "${settings.unknown}". ` +
        "Check that tokenizer_config.json belongs to the vocabulary.",
    );
  };
  const idOf = (token: string): number => ids.get(token)!; // tokenizerSettings has checked these
  const [beginId, endId, paddingId] = [idOf(settings.begin), idOf(settings.end), idOf(settings.padding)];
  if ("tokenizerJson" in files) checkMarkers(files.tokenizerJson, beginId, endId);
  const vocabularySize = 1 + [...ids.values()].reduce((a, b) => Math.max(a, b), -1);

  const tokensOf = (prompt: string): Token[] =>
    sections(prompt).flatMap<Token>((section) =>
      typeof section === "string"
        ? pieces(section).map((content) => ({ content, id: idOfPiece(content), isAdded: false }))
        : [{ content: section.content, id: section.id, isAdded: true }],
    );
  const encode = (prompt: string, maximumLength = settings.maximumLength): EncodedPrompt => {
    if (!Number.isInteger(maximumLength) || maximumLength < 2) {
      throw new InvalidArgumentError(
        `PromptTokenizer.encode: maximumLength must be a whole number of at least 2 (begin and end), got ${maximumLength}.`,
      );
    }
    const tokens = tokensOf(prompt);
    const kept = tokens.slice(0, maximumLength - 2);
    const encoded = new Int32Array(maximumLength).fill(paddingId);
    encoded.set([beginId, ...kept.map(({ id }) => id), endId]);
    const lost = tokens.slice(kept.length).map(({ content, isAdded }) => (isAdded ? `${content}</w>` : content));
    return { ids: encoded, length: kept.length + 2, truncated: lost.length > 0, lost: textOfPieces(lost).trim() };
  };

  return {
    files,
    vocabularySize,
    maximumLength: settings.maximumLength,
    beginId,
    endId,
    paddingId,
    addedTokens,
    encode,
    encodeBatch: (prompts, maximumLength = settings.maximumLength) => {
      const rows = new Int32Array(prompts.length * maximumLength);
      prompts.forEach((prompt, row) => rows.set(encode(prompt, maximumLength).ids, row * maximumLength));
      return new HostTensor([prompts.length, maximumLength], rows);
    },
    tokenize: (prompt) => tokensOf(prompt).map(({ content }) => content),
    withTokens: (contents) => {
      const taken = contents.find((content, index) => ids.has(content) || contents.indexOf(content) !== index);
      if (taken !== undefined) {
        throw new InvalidArgumentError(
          `PromptTokenizer.withTokens: the tokenizer has the token ${JSON.stringify(taken)} already. Choose another name.`,
        );
      }
      const further = contents.map((content, index) => addedToken(vocabularySize + index, content));
      const decoder = Object.fromEntries([...addedTokens, ...further].map(({ id, ...token }) => [id, token]));
      return loadTokenizer({ ...files, tokenizerConfig: { ...config, added_tokens_decoder: decoder } });
    },
  };
}

interface Token {
  readonly content: string;
  readonly id: number;
  readonly isAdded: boolean;
}

/** Added tokens of the former files, where "added_tokens_decoder" does not go before them. */
function formerTokens({ addedTokens, tokenizerConfig = {} }: CommonFiles): AddedToken[] {
  if (addedTokens === undefined || tokenizerConfig.added_tokens_decoder != null) return [];
  return formerAddedTokens(addedTokens, tokenizerConfig);
}

/** The vocabulary and the added tokens of a tokenizer.json. */
function jsonTokens({ tokenizerJson }: Extract<TokenizerFiles, { tokenizerJson: unknown }>): {
  readonly vocab: Readonly<Record<string, number>>;
  readonly listed: readonly AddedToken[];
} {
  const { model, added_tokens: added } = tokenizerJson as {
    readonly model?: { readonly vocab?: unknown } | null;
    readonly added_tokens?: readonly AddedToken[] | null;
  };
  const vocab = model?.vocab;
  if (typeof vocab === "object" && vocab !== null && !Array.isArray(vocab)) {
    return { vocab: { ...vocab }, listed: (added ?? []).map((token) => addedToken(token.id, token)) };
  }
  throw new MalformedFileError(
    "loadTokenizer: expected the parsed tokenizer.json of a tokenizer of byte pairs, as CLIP's: it has a model with a vocab.",
  );
}

/** transformers' fast tokenizers put around a prompt what tokenizer.json says. Throws `MalformedFileError`. */
function checkMarkers(tokenizerJson: object, beginId: number, endId: number): void {
  const { post_processor: around } = tokenizerJson as {
    readonly post_processor?: { readonly cls?: readonly unknown[]; readonly sep?: readonly unknown[] } | null;
  };
  for (const [role, token, id] of [
    ["begin", around?.cls, beginId],
    ["end", around?.sep, endId],
  ] as const) {
    if (token === undefined || token[1] === id) continue;
    throw new MalformedFileError(
      `loadTokenizer: tokenizer.json gives the ${role} token ${JSON.stringify(token)}, tokenizer_config.json the id ${id}. ` +
        "Fetch both again: they belong to different tokenizers.",
    );
  }
}

function splitters(
  files: TokenizerFiles,
  className: TokenizerClass,
  unknown: string,
  addedTokens: readonly AddedToken[],
): { readonly sections: SectionSplitter; readonly pieces: PieceSplitter } {
  const merges = "vocab" in files ? mergePairs(files.merges) : [];
  if (className === "CLIPTokenizer") return { sections: clipSections(addedTokens), pieces: clipPieces(merges) };
  const json = "vocab" in files ? clipTokenizerJson(files.vocab, merges, unknown) : { ...files.tokenizerJson };
  const tokenizer = buildTokenizer({ ...json, added_tokens: [], post_processor: null });
  const { normalizer } = tokenizer;
  tokenizer.normalizer = null; // sections come out normalised
  // Hugging Face's tokenizers lower each letter by itself: the capital sigma at a word's end too.
  const lowers = JSON.stringify(normalizer?.config ?? null).includes('"Lowercase"');
  const normalize = (text: string): string => normalizer?.normalize(lowers ? text.replaceAll("Σ", "σ") : text) ?? text;
  return {
    sections: fastClipSections(addedTokens, normalize),
    pieces: (text) => tokenizer.tokenize(text),
  };
}

function buildTokenizer(tokenizerJson: object): Tokenizer {
  try {
    return new Tokenizer(tokenizerJson, {});
  } catch (cause) {
    throw new MalformedFileError(
      "loadTokenizer: expected the parsed tokenizer.json of a tokenizer, or vocab.json and merges.txt of CLIP's; " +
        `building it failed: ${cause instanceof Error ? cause.message : String(cause)}.`,
      { cause },
    );
  }
}

/** The pairs of merges.txt, the first to be merged first. */
function mergePairs(merges: string | readonly string[]): string[] {
  const pairs = (typeof merges === "string" ? merges.split(/\r?\n/) : merges).filter(
    (line) => line !== "" && !line.startsWith("#version"),
  );
  for (const pair of pairs) {
    if (pair.split(" ").length !== 2) {
      throw new MalformedFileError(
        `loadTokenizer: each line of merges.txt holds two pieces, got ${JSON.stringify(pair)}.`,
      );
    }
  }
  return pairs;
}
