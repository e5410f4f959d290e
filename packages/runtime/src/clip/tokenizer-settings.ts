import { MalformedFileError, configReader, flag, oneOf } from "@sdxs/tensor";
import type { AddedToken } from "./added-tokens.js";

/** A special token as the files write it: plain text, or a record that holds the text. */
export type SpecialToken = string | (Partial<Omit<AddedToken, "id">> & { readonly content: string });

/**
 * The fields of `tokenizer_config.json` that count here. Others may stand beside them: none of those has an effect on CLIP's
 * tokens in transformers either ("do_lower_case", "add_prefix_space", "errors", ...).
 */
export interface TokenizerConfig {
  /** Absent: CLIPTokenizer where there are vocab.json and merges.txt, else CLIPTokenizerFast. */
  readonly tokenizer_class?: string | null;
  readonly bos_token?: SpecialToken | null;
  readonly eos_token?: SpecialToken | null;
  /** SD 1.x pads with the end token, SD 2.x with "!". */
  readonly pad_token?: SpecialToken | null;
  /** Stands for pieces that the vocabulary lacks. */
  readonly unk_token?: SpecialToken | null;
  readonly additional_special_tokens?: readonly SpecialToken[] | null;
  /** Added tokens by their ids. */
  readonly added_tokens_decoder?: Readonly<Record<string, Exclude<SpecialToken, string>>> | null;
  /** true: special tokens in a prompt are split as other text. */
  readonly split_special_tokens?: boolean;
  /** Tokens of an encoded prompt, with begin, end and padding. */
  readonly model_max_length?: number | null;
}

export type TokenizerClass = "CLIPTokenizer" | "CLIPTokenizerFast";

/** What the files of a tokenizer say beside its vocabulary. */
export interface TokenizerSettings {
  readonly className: TokenizerClass;
  readonly begin: string;
  readonly end: string;
  readonly padding: string;
  readonly unknown: string;
  readonly maximumLength: number;
  /** By id. */
  readonly addedTokens: readonly AddedToken[];
  /** Added tokens that are split into words and pieces as other text. */
  readonly isSplit: (token: AddedToken) => boolean;
}

/** The length of CLIP's position table (Radford et al. 2021, section 2.4: 76 tokens and one more in the release). */
const clipMaximumLength = 77;

/** transformers writes 1e30 where no length is known, and takes all beyond this for it. */
const unknownLength = 1e20;

/**
 * @param listed added tokens of tokenizer.json, or of added_tokens.json in former folders
 * @param vocabulary ids of all other tokens
 * @throws MalformedFileError, UnsupportedConfigError
 */
export function tokenizerSettings(
  config: TokenizerConfig,
  hasClipFiles: boolean,
  listed: readonly AddedToken[],
  vocabulary: ReadonlyMap<string, number>,
): TokenizerSettings {
  const read = configReader("loadTokenizer", config);
  const named = read("tokenizer_class", oneOf(["CLIPTokenizer", "CLIPTokenizerFast", null]), null);
  const className = hasClipFiles && named !== "CLIPTokenizerFast" ? "CLIPTokenizer" : "CLIPTokenizerFast";
  read("padding_side", oneOf(["right"]), "right");
  read("truncation_side", oneOf(["right"]), "right");
  read("extra_special_tokens", isEmpty, {});
  const splitsSpecial = read("split_special_tokens", flag, false);

  const textOf = (field: (typeof tokenFields)[number]): string | undefined => tokenText(field, config[field]);
  const begin = textOf("bos_token") ?? "<|startoftext|>";
  const end = textOf("eos_token") ?? "<|endoftext|>";
  const padding = textOf("pad_token") ?? end;
  const unknown = textOf("unk_token") ?? end;
  const given = [...listed, ...decodedTokens(config)];
  for (const [role, content] of Object.entries({ begin, end, padding })) {
    if (vocabulary.has(content) || given.some((token) => token.content === content)) continue;
    throw new MalformedFileError(
      `loadTokenizer: the ${role} token "${content}" is not in the vocabulary. ` +
        "Check that tokenizer_config.json belongs to the vocabulary.",
    );
  }
  // As transformers: CLIPTokenizer marks these three as normalised, which counts where CLIPTokenizerFast is made of its files.
  const marked = (token: SpecialToken | null | undefined, content: string): SpecialToken =>
    hasClipFiles && typeof (token ?? content) === "string" ? { content, normalized: true } : (token ?? content);
  const special: readonly SpecialToken[] = [
    marked(config.bos_token, begin),
    marked(config.eos_token, end),
    marked(config.unk_token, unknown),
    config.pad_token ?? padding,
    ...furtherTokens(config),
  ];
  return {
    className,
    begin,
    end,
    padding,
    unknown,
    maximumLength: lengthOf(config),
    addedTokens: allAddedTokens(given, special, vocabulary),
    // CLIPTokenizer then splits all of them, CLIPTokenizerFast the special ones.
    isSplit: ({ special: isSpecial }) => splitsSpecial && (isSpecial || className === "CLIPTokenizer"),
  };
}

const isEmpty = {
  expected: "none; give them as additional_special_tokens",
  accepts: (value: unknown): value is object =>
    value === null || (typeof value === "object" && Object.keys(value).length === 0),
};

const tokenFields = ["bos_token", "eos_token", "pad_token", "unk_token"] as const;

/** The text of a token in a file, which may hold anything. Throws `MalformedFileError`. */
function tokenText(field: string, token: SpecialToken | null | undefined): string | undefined {
  if (token === null || token === undefined) return undefined;
  const text: unknown = typeof token === "string" ? token : token.content;
  if (typeof text === "string" && text !== "") return text;
  throw new MalformedFileError(
    `loadTokenizer: "${field}" must be a token's text, or a record with its "content", got ${JSON.stringify(token)}.`,
  );
}

function furtherTokens({ additional_special_tokens: tokens }: TokenizerConfig): readonly SpecialToken[] {
  const isList: boolean = Array.isArray(tokens ?? []); // files may hold anything
  if (isList) return tokens ?? [];
  throw new MalformedFileError(
    `loadTokenizer: "additional_special_tokens" must be a list, got ${JSON.stringify(tokens)}.`,
  );
}

/** The configured length; files without one carry a huge number, which means CLIP's. */
function lengthOf({ model_max_length: length }: TokenizerConfig): number {
  if (length === undefined || length === null || length > unknownLength) return clipMaximumLength;
  if (Number.isInteger(length) && length >= 2) return length;
  throw new MalformedFileError(
    `loadTokenizer: model_max_length in tokenizer_config.json must be a whole number of at least 2, got ${length}.`,
  );
}

/** The tokens of "added_tokens_decoder". */
function decodedTokens({ added_tokens_decoder: decoder }: TokenizerConfig): AddedToken[] {
  return Object.entries(decoder ?? {}).map(([id, token]) => addedToken(Number(id), token));
}

/** A token with transformers' defaults. Throws `MalformedFileError`. */
export function addedToken(id: number, token: SpecialToken): AddedToken {
  const record = typeof token === "string" ? { content: token } : token;
  const {
    content,
    lstrip = false,
    rstrip = false,
    single_word = false,
    special = false,
    normalized = !special,
  } = record;
  if (!Number.isInteger(id) || id < 0 || typeof content !== "string" || content === "") {
    throw new MalformedFileError(
      `loadTokenizer: an added token has an id and a content, got ${JSON.stringify({ ...record, id })}.`,
    );
  }
  return { id, content, lstrip, rstrip, single_word, normalized, special };
}

/** added_tokens.json, a former file: ids by content. The special ones are not normalised. */
export function formerAddedTokens(ids: Readonly<Record<string, number>>, config: TokenizerConfig): AddedToken[] {
  const special = [
    ...tokenFields.map((field) => tokenText(field, config[field])),
    ...furtherTokens(config).map((token) => tokenText("additional_special_tokens", token)),
  ];
  return Object.entries(ids).map(([content, id]) => addedToken(id, { content, special: special.includes(content) }));
}

/**
 * With the special tokens, which a prompt may contain too: those of the vocabulary keep its ids, others follow the last one.
 * Throws `MalformedFileError` where two tokens share an id, or one has two.
 */
function allAddedTokens(
  given: readonly AddedToken[],
  special: readonly SpecialToken[],
  vocabulary: ReadonlyMap<string, number>,
): AddedToken[] {
  const byContent = new Map<string, AddedToken>();
  const byId = new Map<number, AddedToken>();
  for (const token of given) {
    const { id, content } = token;
    const other = byContent.get(content)?.id ?? id;
    const holder = byId.get(id)?.content ?? content;
    if (other !== id || holder !== content) {
      throw new MalformedFileError(
        `loadTokenizer: the added token ${JSON.stringify(content)} has the id ${id}, but ` +
          (other !== id ? `also ${other}.` : `so has ${JSON.stringify(holder)}.`) +
          " Fetch the tokenizer's files again: they belong to different ones.",
      );
    }
    byContent.set(content, token);
    byId.set(id, token);
  }
  for (const token of special) {
    const content = tokenText("additional_special_tokens", token);
    if (content === undefined || byContent.has(content)) continue;
    const added = [...byContent.keys()].filter((key) => !vocabulary.has(key)).length;
    const id = vocabulary.get(content) ?? vocabulary.size + added;
    byContent.set(content, addedToken(id, { ...(typeof token === "object" && token), content, special: true }));
  }
  return [...byContent.values()].sort((a, b) => a.id - b.id);
}
