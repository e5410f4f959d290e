import { describe, expect, it } from "vitest";
import { loadTokenizer, type TokenizerConfig } from "./tokenizer.js";

/**
 * A vocabulary in CLIP's order that is small enough to encode by hand:
 * single characters, characters that end a word, merges, the two markers.
 */
const characters = Array.from("!,'0123abcdeloprstx");
const merges = ["a p", "p l", "ap pl", "appl e</w>", "r e", "re d</w>", "' s</w>", "c a", "ca t</w>"];
const tokens = [
  ...characters,
  ...characters.map((character) => `${character}</w>`),
  ...merges.map((pair) => pair.replace(" ", "")),
  "<|startoftext|>",
  "<|endoftext|>",
];
const vocab = Object.fromEntries(tokens.map((token, id) => [token, id]));
const id = (token: string) => {
  const found = vocab[token];
  if (found === undefined) throw new Error(`the vocabulary has no "${token}"`);
  return found;
};
const begin = id("<|startoftext|>");
const end = id("<|endoftext|>");
const load = (tokenizerConfig: TokenizerConfig = {}) => loadTokenizer({ vocab, merges, tokenizerConfig });

describe("loadTokenizer with CLIP's vocab.json and merges.txt", () => {
  it("puts begin and end around the prompt and pads to 77 with the end token", () => {
    const { ids, length, truncated } = load().encode("red apple");
    expect(Array.from(ids)).toEqual([begin, id("red</w>"), id("apple</w>"), ...new Array<number>(74).fill(end)]);
    expect(length).toBe(4);
    expect(truncated).toBe(false);
  });

  it("lowers capitals and ignores how much white space stands between words", () => {
    expect(load().encode("  RED \n\t Apple ").ids).toEqual(load().encode("red apple").ids);
  });

  it("ends each word with </w>, so that a word inside another has other tokens", () => {
    expect(load().tokenize("cat")).toEqual(["cat</w>"]);
    expect(load().tokenize("cats")).toEqual(["ca", "t", "s</w>"]);
  });

  it("merges by the rank of the pairs, not from left to right", () => {
    // "p l" ranks before "ap pl", and "a p" before both: a p p l e -> ap p l e -> ap pl e -> appl e -> apple.
    expect(load().tokenize("apple")).toEqual(["apple</w>"]);
    // In "apl" the pair "a p" comes first and takes the p from "p l".
    expect(load().tokenize("apl")).toEqual(["ap", "l</w>"]);
  });

  it("splits contractions, digits one by one, and punctuation in runs", () => {
    expect(load().tokenize("cat's 210 red!!,")).toEqual([
      "cat</w>",
      "'s</w>",
      "2</w>",
      "1</w>",
      "0</w>",
      "red</w>",
      "!",
      "!",
      ",</w>",
    ]);
  });

  it("cuts a long prompt, keeps the end token and says so", () => {
    const { ids, length, truncated, lost } = load().encode("red cat RED cat's", 5);
    expect(Array.from(ids)).toEqual([begin, id("red</w>"), id("cat</w>"), id("red</w>"), end]);
    expect(length).toBe(5);
    expect(truncated).toBe(true);
    expect(lost).toBe("cat 's"); // the pieces, a space after each word
    expect(load().encode("red cat red", 5)).toMatchObject({ truncated: false, lost: "" });
  });

  it("encodes the empty prompt as begin and end", () => {
    expect(Array.from(load().encode("", 4).ids)).toEqual([begin, end, end, end]);
  });

  it("takes length, padding and markers from tokenizer_config.json, as text or as records", () => {
    const tokenizer = load({
      bos_token: { content: "<|startoftext|>" },
      eos_token: "<|endoftext|>",
      pad_token: "!",
      model_max_length: 6,
    });
    expect(tokenizer.maximumLength).toBe(6);
    expect(tokenizer.vocabularySize).toBe(tokens.length);
    expect(Array.from(tokenizer.encode("cat").ids)).toEqual([begin, id("cat</w>"), end, 0, 0, 0]);
  });

  it("takes the padding token for itself in a prompt too, as transformers does with special tokens", () => {
    // tokenizer_2 of Stable Diffusion XL lists 0, "!", among its special added tokens.
    expect(load({ pad_token: "!" }).tokenize("cat!")).toEqual(["cat</w>", "!"]);
    expect(load().tokenize("cat!")).toEqual(["cat</w>", "!</w>"]);
  });

  it("reads a huge model_max_length, which means none, as CLIP's 77", () => {
    expect(load({ model_max_length: 1e30 }).maximumLength).toBe(77);
  });

  it("stacks a batch of prompts as int32 [prompts, length]", () => {
    const batch = load().encodeBatch(["red", "cat"], 4);
    expect(batch.shape).toEqual([2, 4]);
    expect(batch.dtype).toBe("int32");
    expect(Array.from(batch.data)).toEqual([begin, id("red</w>"), end, end, begin, id("cat</w>"), end, end]);
  });

  it("reads merges.txt with its version line", () => {
    const text = ["#version: 0.2", ...merges, ""].join("\n");
    expect(loadTokenizer({ vocab, merges: text }).encode("red apple").ids).toEqual(load().encode("red apple").ids);
  });

  it("refuses files that are no tokenizer, and lengths without room for the markers", () => {
    const { "<|endoftext|>": _, ...withoutEnd } = vocab;
    expect(() => loadTokenizer({ vocab: withoutEnd, merges })).toThrow(/end token "<\|endoftext\|>" is not in/);
    expect(() => loadTokenizer({ vocab, merges: ["a p l"] })).toThrow(/two pieces, got "a p l"/);
    expect(() => loadTokenizer({ tokenizerJson: {} })).toThrow(/expected the parsed tokenizer.json/);
    expect(() => load({ model_max_length: 1 })).toThrow(/model_max_length/);
    expect(() => load().encode("cat", 1)).toThrow(/at least 2/);
  });
});

describe("loadTokenizer with tokenizer.json", () => {
  it("encodes as with vocab.json and merges.txt", () => {
    // As transformers saves CLIP's: merges as pairs, default flags left out.
    const tokenizerJson = {
      version: "1.0",
      added_tokens: [
        { id: begin, content: "<|startoftext|>", special: true, normalized: true },
        { id: end, content: "<|endoftext|>", special: true, normalized: false },
      ],
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
            pattern: { Regex: "'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+" },
            behavior: "Removed",
            invert: true,
          },
          { type: "ByteLevel", add_prefix_space: false, trim_offsets: true },
        ],
      },
      post_processor: { type: "RobertaProcessing", sep: ["<|endoftext|>", end], cls: ["<|startoftext|>", begin] },
      decoder: { type: "ByteLevel" },
      model: {
        type: "BPE",
        unk_token: "<|endoftext|>",
        end_of_word_suffix: "</w>",
        vocab,
        merges: merges.map((pair) => pair.split(" ")),
      },
    };
    const whole = loadTokenizer({ tokenizerJson });
    for (const prompt of ["red apple", "Cat's 210 red!!,", ""]) {
      expect(whole.encode(prompt).ids).toEqual(load().encode(prompt).ids);
    }
  });
});
