import { Tokenizer } from "@huggingface/tokenizers";
import { HostTensor, InvalidArgumentError, MalformedFileError } from "@sdxs/tensor";

/** The length of CLIP's position table (Radford et al. 2021, section 2.4: 76 tokens and one more in the release). */
const clipMaximumLength = 77;

/** A special token as the files write it: plain text, or a record that holds the text. */
type SpecialToken = string | { readonly content: string };

/** The fields of `tokenizer_config.json` that count here; others may stand beside them. */
export interface TokenizerConfig {
  readonly bos_token?: SpecialToken | null;
  readonly eos_token?: SpecialToken | null;
  /** SD 1.x pads with the end token, SD 2.x with "!". */
  readonly pad_token?: SpecialToken | null;
  /** Tokens of an encoded prompt, with begin, end and padding. */
  readonly model_max_length?: number | null;
}

/** The parsed files of a `tokenizer` folder: the new kind (`tokenizer.json`), or CLIP's own two files. */
export type TokenizerFiles =
  | { readonly tokenizerJson: object; readonly tokenizerConfig?: TokenizerConfig }
  | {
      /** `vocab.json`: the id of each token. */
      readonly vocab: Readonly<Record<string, number>>;
      /** The text of `merges.txt`, or its pairs: "r e". */
      readonly merges: string | readonly string[];
      readonly tokenizerConfig?: TokenizerConfig;
    };

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
  readonly vocabularySize: number;
  /** Ids of an encoded prompt where `encode` is not told otherwise. */
  readonly maximumLength: number;
  readonly beginId: number;
  readonly endId: number;
  readonly paddingId: number;
  /**
   * @param maximumLength ids to return; at least 2. A text encoder takes at most as many as it has positions.
   */
  encode(prompt: string, maximumLength?: number): EncodedPrompt;
  /** Stacks encoded prompts: int32, [prompts, maximumLength]. Cut prompts stay unnoticed: use `encode` to see them. */
  encodeBatch(prompts: readonly string[], maximumLength?: number): HostTensor;
  /** The pieces of a prompt, without begin and end: "a photo" gives ["a</w>", "photo</w>"]. */
  tokenize(prompt: string): string[];
}

/**
 * Builds CLIP's tokenizer from the parsed files of a diffusers `tokenizer` folder.
 *
 * Text is normalised (NFC, white space, lower case), split into words, digits and punctuation, and each of them into
 * byte pairs. Other than OpenAI's code it neither repairs broken encodings nor HTML entities.
 *
 * @throws MalformedFileError when the files are no tokenizer, or lack the begin, end or padding token.
 *
 * @example
 * const tokenizer = loadTokenizer({ vocab, merges, tokenizerConfig });
 * const { ids, truncated } = tokenizer.encode("a photo of a cat"); // Int32Array(77) [49406, 320, 1125, ..., 49407]
 */
export function loadTokenizer(files: TokenizerFiles): PromptTokenizer {
  const config = files.tokenizerConfig ?? {};
  const begin = tokenText(config.bos_token) ?? "<|startoftext|>";
  const end = tokenText(config.eos_token) ?? "<|endoftext|>";
  const padding = tokenText(config.pad_token) ?? end;
  const tokenizerJson = "tokenizerJson" in files ? files.tokenizerJson : clipTokenizerJson(files, begin, end, padding);
  const tokenizer = buildTokenizer(tokenizerJson, config);
  const idOf = (role: string, token: string): number => {
    const id = tokenizer.token_to_id(token);
    if (id === undefined) {
      throw new MalformedFileError(
        `loadTokenizer: the ${role} token "${token}" is not in the vocabulary. ` +
          "Check that tokenizer_config.json belongs to the vocabulary.",
      );
    }
    return id;
  };
  const beginId = idOf("begin", begin);
  const endId = idOf("end", end);
  const paddingId = idOf("padding", padding);
  const defaultLength = lengthOf(config);

  const decode = (ids: readonly number[]): string =>
    ids.length === 0
      ? ""
      : tokenizer
          .decode([...ids])
          .replaceAll("</w>", " ")
          .trim();
  const encode = (prompt: string, maximumLength = defaultLength): EncodedPrompt => {
    if (!Number.isInteger(maximumLength) || maximumLength < 2) {
      throw new InvalidArgumentError(
        `PromptTokenizer.encode: maximumLength must be a whole number of at least 2 (begin and end), got ${maximumLength}.`,
      );
    }
    const prompted = tokenizer.encode(prompt, { add_special_tokens: false }).ids;
    const kept = prompted.slice(0, maximumLength - 2);
    const ids = new Int32Array(maximumLength).fill(paddingId);
    ids.set([beginId, ...kept, endId]);
    const lost = decode(prompted.slice(maximumLength - 2));
    return { ids, length: kept.length + 2, truncated: kept.length < prompted.length, lost };
  };

  return {
    files,
    vocabularySize: tokenizer.get_vocab(true).size,
    maximumLength: defaultLength,
    beginId,
    endId,
    paddingId,
    encode,
    encodeBatch: (prompts, maximumLength = defaultLength) => {
      const ids = new Int32Array(prompts.length * maximumLength);
      prompts.forEach((prompt, row) => ids.set(encode(prompt, maximumLength).ids, row * maximumLength));
      return new HostTensor([prompts.length, maximumLength], ids);
    },
    tokenize: (prompt) => tokenizer.tokenize(prompt, { add_special_tokens: false }),
  };
}

function tokenText(token: SpecialToken | null | undefined): string | undefined {
  return typeof token === "string" ? token : token?.content;
}

/** The configured length; files without one carry a huge number (1e30), which means CLIP's. */
function lengthOf({ model_max_length: length }: TokenizerConfig): number {
  if (length === undefined || length === null || length > clipMaximumLength) return clipMaximumLength;
  if (Number.isInteger(length) && length >= 2) return length;
  throw new MalformedFileError(
    `loadTokenizer: model_max_length in tokenizer_config.json must be a whole number of at least 2, got ${length}.`,
  );
}

function buildTokenizer(tokenizerJson: object, config: TokenizerConfig): Tokenizer {
  try {
    return new Tokenizer(tokenizerJson, config);
  } catch (cause) {
    throw new MalformedFileError(
      "loadTokenizer: expected the parsed tokenizer.json of a tokenizer, or vocab.json and merges.txt of CLIP's; " +
        `building it failed: ${cause instanceof Error ? cause.message : String(cause)}.`,
      { cause },
    );
  }
}

/** CLIP's two files as a `tokenizer.json`, as transformers' `CLIPConverter` builds it. */
function clipTokenizerJson(
  { vocab, merges }: Extract<TokenizerFiles, { vocab: unknown }>,
  begin: string,
  end: string,
  padding: string,
): object {
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
  // Wherever one of them stands in a prompt, it is that token: so is a "!" where it pads.
  const special = [...new Set([begin, end, padding])].flatMap((content) => {
    const id = vocab[content];
    // `loadTokenizer` reports a missing one.
    return id === undefined ? [] : [{ id, content, special: true, normalized: false }];
  });
  return {
    added_tokens: special,
    normalizer: {
      type: "Sequence",
      normalizers: [
        { type: "NFC" },
        { type: "Replace", pattern: { Regex: "\\s+" }, content: " " },
        { type: "Lowercase" },
      ],
    },
    pre_tokenizer: {
      type: "Sequence",
      pretokenizers: [
        {
          type: "Split",
          // The pattern of OpenAI's simple_tokenizer.py, without the two markers, which are added tokens here.
          pattern: { Regex: "'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+" },
          behavior: "Removed",
          invert: true,
        },
        { type: "ByteLevel", add_prefix_space: false, use_regex: false },
      ],
    },
    post_processor: {
      type: "RobertaProcessing",
      sep: [end, vocab[end]],
      cls: [begin, vocab[begin]],
      add_prefix_space: false,
      trim_offsets: false,
    },
    decoder: { type: "ByteLevel" },
    model: {
      type: "BPE",
      unk_token: end,
      continuing_subword_prefix: "",
      end_of_word_suffix: "</w>",
      fuse_unk: false,
      ignore_merges: false,
      vocab,
      merges: pairs,
    },
  };
}
