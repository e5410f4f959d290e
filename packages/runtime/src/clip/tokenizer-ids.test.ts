import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { loadTokenizer, type AddedToken, type TokenizerConfig } from "./tokenizer.js";

interface Reference {
  readonly merges: readonly string[];
  readonly prompts: readonly string[];
  readonly cases: Readonly<
    Record<
      string,
      {
        readonly config: TokenizerConfig;
        readonly specialTokensMap?: TokenizerConfig;
        readonly addedTokens?: Readonly<Record<string, number>>;
        readonly ids: Readonly<Record<string, readonly number[]>>;
      }
    >
  >;
}

/** Ids by transformers: see fixtures/README.md. */
const { merges, prompts, cases } = JSON.parse(
  readFileSync(new URL("../../fixtures/clip-tokenizers/ids.json", import.meta.url), "utf8"),
) as Reference;
const plainIds = cases["plain"]!.ids;

const isPrintable = (byte: number) => (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte !== 0xad);
const bytes = Array.from({ length: 256 }, (_, byte) => byte);
const others = bytes.filter((byte) => !isPrintable(byte));
const characters = bytes.map((byte) => String.fromCodePoint(isPrintable(byte) ? byte : 256 + others.indexOf(byte)));
const tokens = [
  ...characters,
  ...characters.map((character) => `${character}</w>`),
  ...merges.map((pair) => pair.replace(" ", "")),
  "<|startoftext|>",
  "<|endoftext|>",
];
const vocab = Object.fromEntries(tokens.map((token, id) => [token, id]));

describe("loadTokenizer gives the ids of transformers' CLIPTokenizer", () => {
  it.each(Object.entries(cases))("%s", (_, { config, specialTokensMap, addedTokens, ids }) => {
    const tokenizer = loadTokenizer({
      vocab,
      merges,
      tokenizerConfig: { ...config, ...specialTokensMap },
      ...(addedTokens && { addedTokens }),
    });
    for (const [index, prompt] of prompts.entries()) {
      const expected = ids[index] ?? plainIds[index]!;
      const encoded = tokenizer.encode(prompt).ids;
      expect(Array.from(encoded.subarray(0, expected.length)), JSON.stringify(prompt)).toEqual(expected);
      expect(encoded.subarray(expected.length).every((id) => id === tokenizer.paddingId)).toBe(true);
    }
  });
});

const size = tokens.length;
const token = (content: string, flags: Partial<AddedToken> = {}) => ({ content, ...flags });
/** What a prompt is split into, with added tokens of these flags after the vocabulary. */
const fast = (added: readonly ReturnType<typeof token>[], config: TokenizerConfig = {}) => {
  const decoder = Object.fromEntries(added.map((each, index) => [size + index, each]));
  const tokenizerConfig = { tokenizer_class: "CLIPTokenizerFast", added_tokens_decoder: decoder, ...config };
  const tokenizer = loadTokenizer({ vocab, merges, tokenizerConfig });
  return (prompt: string) => tokenizer.tokenize(prompt);
};

// The rules of AddedVocabulary in Hugging Face's tokenizers (added_vocabulary.rs).
describe("loadTokenizer finds added tokens as CLIPTokenizerFast does", () => {
  it("in the normalised prompt, or as they are written", () => {
    expect(fast([token("Sks")])("a SKS sks")).toEqual(["a</w>", "Sks", "Sks"]);
    const written = fast([token("Sks", { normalized: false })]);
    expect(written("a SKS Sks").filter((piece) => piece === "Sks")).toHaveLength(1);
    // Special tokens that are not written as records are not normalised.
    expect(fast([], { additional_special_tokens: ["<A>"] })("<a> <A>").at(-1)).toBe("<A>");
  });

  it("alone where they are single words: no letter, digit, mark or underscore beside them", () => {
    const split = fast([token("cat", { single_word: true })]);
    for (const prompt of ["cat", "(cat)", "a cat.", "cat's"]) expect(split(prompt), prompt).toContain("cat");
    for (const prompt of ["cats", "a_cat", "1cat", "cat\u0301"]) expect(split(prompt), prompt).not.toContain("cat");
  });

  it("the longest at each place, before the words around them", () => {
    const split = fast([token("ab"), token("abcd"), token("bc")]);
    expect(split("abcd abc")).toEqual(["abcd", "ab", "c</w>"]);
  });

  it("and leaves special ones to the words where split_special_tokens says so", () => {
    const split = fast([token("<S>", { special: true }), token("sks")], { split_special_tokens: true });
    expect(split("<S>")).toEqual(["<</w>", "s</w>", "></w>"]);
    expect(split("sks")).toEqual(["sks"]);
  });

  it("and lowers each letter by itself, unlike CLIPTokenizer at the end of a word", () => {
    expect(fast([])("ΟΔΟΣ")).toEqual(fast([])("οδοσ"));
    expect(loadTokenizer({ vocab, merges }).tokenize("ΟΔΟΣ")).toEqual(fast([])("οδος"));
  });

  it("and does not set Chinese characters apart", () => {
    const slow = loadTokenizer({ vocab, merges });
    const ends = (pieces: readonly string[]) => pieces.filter((piece) => piece.endsWith("</w>")).length;
    expect([ends(fast([])("猫犬")), ends(slow.tokenize("猫犬"))]).toEqual([1, 2]);
  });
});

describe("loadTokenizer with a tokenizer.json takes added tokens from it and from tokenizer_config.json", () => {
  const added = (id: number, content: string) => ({ id, content, special: false, normalized: true });
  const tokenizerJson = {
    added_tokens: [added(size, "sks"), added(size + 1, "sks_1")],
    normalizer: { type: "Lowercase" },
    pre_tokenizer: { type: "Split", pattern: { Regex: "\\S+" }, behavior: "Removed", invert: true },
    post_processor: null,
    decoder: null,
    model: { type: "BPE", unk_token: "<|endoftext|>", end_of_word_suffix: "</w>", vocab, merges },
  };

  it("by id", () => {
    const tokenizer = loadTokenizer({
      tokenizerJson,
      tokenizerConfig: { added_tokens_decoder: { [size + 2]: { content: "<toy>" } } },
    });
    expect(tokenizer.tokenize("Sks sks_1<toy>")).toEqual(["sks", "sks_1", "<toy>"]);
    expect(tokenizer.vocabularySize).toBe(size + 3);
  });

  it("and refuses other begin and end tokens than those of tokenizer_config.json", () => {
    const post_processor = { type: "RobertaProcessing", cls: ["!", 33], sep: ["<|endoftext|>", size - 1] };
    expect(() => loadTokenizer({ tokenizerJson: { ...tokenizerJson, post_processor } })).toThrow(
      'tokenizer.json gives the begin token ["!",33]',
    );
  });

  it("and refuses two tokens of one id", () => {
    const tokenizerConfig = { added_tokens_decoder: { [size]: { content: "<toy>" } } };
    expect(() => loadTokenizer({ tokenizerJson, tokenizerConfig })).toThrow(
      `the added token "<toy>" has the id ${size}, but so has "sks"`,
    );
  });
});

describe("PromptTokenizer.withTokens", () => {
  it("gives further tokens the next ids, and they are found again after saving and loading", () => {
    const tokenizer = loadTokenizer({ vocab, merges }).withTokens(["sks", "sks_1"]);
    expect(tokenizer.vocabularySize).toBe(size + 2);
    const [, sks, first, end] = tokenizer.encode("sks sks_1", 4).ids;
    expect([sks, first, end]).toEqual([size, size + 1, size - 1]);
    expect(tokenizer.withTokens(["<toy>"]).encode("<toy>sks").ids.slice(1, 3)).toEqual(Int32Array.of(size + 2, size));
    expect(() => tokenizer.withTokens(["sks"])).toThrow('has the token "sks" already');
  });
});

it.each([
  [{ padding_side: "left" }, '"padding_side" is "left"'],
  [{ truncation_side: "left" }, '"truncation_side" is "left"'],
  [{ tokenizer_class: "T5Tokenizer" }, '"tokenizer_class" is "T5Tokenizer"'],
  [{ extra_special_tokens: { image: "<i>" } }, '"extra_special_tokens" is'],
])("loadTokenizer refuses %j", (config, message) => {
  expect(() => loadTokenizer({ vocab, merges, tokenizerConfig: config as TokenizerConfig })).toThrow(message);
});

it.each([
  [{ bos_token: 5 }, '"bos_token" must be a token\'s text'],
  [{ pad_token: {} }, '"pad_token" must be a token\'s text'],
  [{ additional_special_tokens: "<a>" }, '"additional_special_tokens" must be a list'],
  [{ additional_special_tokens: [1] }, '"additional_special_tokens" must be a token\'s text'],
  [{ added_tokens_decoder: { x: { content: "a" } } }, "an added token has an id and a content"],
  [{ added_tokens_decoder: { 900: {} } }, "an added token has an id and a content"],
])("loadTokenizer calls %j malformed", (config, message) => {
  expect(() => loadTokenizer({ vocab, merges, tokenizerConfig: config as unknown as TokenizerConfig })).toThrow(
    expect.objectContaining({ code: "MALFORMED_FILE", message: expect.stringContaining(message) }),
  );
});

it("loadTokenizer takes a longer model_max_length than CLIP's, as of models with more positions", () => {
  expect(loadTokenizer({ vocab, merges, tokenizerConfig: { model_max_length: 248 } }).maximumLength).toBe(248);
});
