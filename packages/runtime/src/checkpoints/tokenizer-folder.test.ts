import { mkdtempSync, rmSync } from "node:fs";
import { mkdtemp, readdir, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, it } from "vitest";
import { readJson } from "./model-folder.test-support.js";
import { loadTokenizerFolder, saveTokenizerFolder } from "./tokenizer-folder.js";
import { loadTokenizer } from "../clip/tokenizer.js";

const root = mkdtempSync(join(tmpdir(), "sdxs-tokenizers-"));
afterAll(() => rmSync(root, { recursive: true }));

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(root, "tokenizer-"));
});

const vocab = { "!": 0, "a</w>": 1, "<|startoftext|>": 2, "<|endoftext|>": 3 };
const special = [2, 3].map((id) => ({ id, content: Object.keys(vocab)[id], special: true, normalized: false }));
/** As transformers saves CLIP's, as far as it counts. */
const tokenizerJson = {
  added_tokens: special,
  normalizer: { type: "Lowercase" },
  pre_tokenizer: { type: "Split", pattern: { Regex: "\\S+" }, behavior: "Removed", invert: true },
  post_processor: null,
  decoder: null,
  model: { type: "BPE", unk_token: "<|endoftext|>", end_of_word_suffix: "</w>", vocab, merges: [] },
};

const write = (name: string, value: unknown): Promise<void> =>
  writeFile(join(folder, name), typeof value === "string" ? value : JSON.stringify(value));

async function writeFormer(): Promise<void> {
  await write("vocab.json", vocab);
  await write("merges.txt", "#version: 0.2\n");
}

describe("loadTokenizerFolder", () => {
  it("takes special tokens from where transformers does: the map in former folders, the configuration since", async () => {
    await writeFormer();
    await write("special_tokens_map.json", { pad_token: { content: "!" } });
    // As in the folder of Stable Diffusion 2.1.
    await write("tokenizer_config.json", { pad_token: "<|endoftext|>", model_max_length: 4 });
    expect((await loadTokenizerFolder(folder)).encode("A").ids).toEqual(Int32Array.of(2, 1, 3, 0));
    await write("tokenizer_config.json", { pad_token: "<|endoftext|>", model_max_length: 4, added_tokens_decoder: {} });
    expect((await loadTokenizerFolder(folder)).encode("A").ids).toEqual(Int32Array.of(2, 1, 3, 3));
  });

  it("reads added tokens from added_tokens.json and tokenizer.json in former folders", async () => {
    await writeFormer();
    await write("added_tokens.json", { sks: 4 });
    expect((await loadTokenizerFolder(folder)).encode("a sks", 4).ids).toEqual(Int32Array.of(2, 1, 4, 3));
    await write("tokenizer.json", { ...tokenizerJson, added_tokens: [...special, { id: 5, content: "<toy>" }] });
    expect((await loadTokenizerFolder(folder)).encode("<toy>sks", 4).ids).toEqual(Int32Array.of(2, 5, 4, 3));
    await write("tokenizer_config.json", { added_tokens_decoder: { 6: { content: "sks" } } });
    expect((await loadTokenizerFolder(folder)).encode("<toy>sks", 9).ids).toContain(6);
  });

  it("reads tokenizer.json in place of vocab.json for a CLIPTokenizerFast", async () => {
    await writeFormer();
    await write("tokenizer.json", tokenizerJson);
    await write("tokenizer_config.json", { tokenizer_class: "CLIPTokenizerFast" });
    expect((await loadTokenizerFolder(folder)).files).toMatchObject({ tokenizerJson });
  });

  it("reads tokenizer.json where it is alone", async () => {
    await write("tokenizer.json", tokenizerJson);
    const tokenizer = await loadTokenizerFolder(folder);
    expect(tokenizer.files).toEqual({ tokenizerJson, tokenizerConfig: {} });
    expect(tokenizer.encode("a", 4).ids).toEqual(Int32Array.of(2, 1, 3, 3));
  });

  it("refuses folders without a tokenizer, and files that are none, and names the folder", async () => {
    await write("vocab.json", vocab);
    await expect(loadTokenizerFolder(folder)).rejects.toMatchObject({
      code: "MISSING_FILE",
      message: `${folder} has neither vocab.json and merges.txt nor tokenizer.json. Fetch them, or check the path.`,
    });
    await write("merges.txt", "a b c");
    await expect(loadTokenizerFolder(folder)).rejects.toMatchObject({
      code: "MALFORMED_FILE",
      message: expect.stringMatching(new RegExp(`^${folder}: .*two pieces, got "a b c"`)),
    });
    await write("tokenizer_config.json", []);
    await expect(loadTokenizerFolder(folder)).rejects.toMatchObject({
      code: "MALFORMED_FILE",
      message: expect.stringContaining("tokenizer_config.json must hold an object"),
    });
    await expect(loadTokenizerFolder(join(folder, "no"))).rejects.toMatchObject({ code: "MISSING_FILE" });
  });
});

describe("saveTokenizerFolder", () => {
  it("writes the files of the kind that was loaded, and leaves none of the other", async () => {
    const former = loadTokenizer({ vocab, merges: [], tokenizerConfig: { pad_token: "!", model_max_length: 1e30 } });
    await saveTokenizerFolder(folder, former);
    const texts = ["special_tokens_map.json", "tokenizer_config.json"];
    expect((await readdir(folder)).sort()).toEqual(["merges.txt", ...texts, "vocab.json"]);
    expect(await readJson(join(folder, "special_tokens_map.json"))).toEqual({ pad_token: "!" });
    // transformers would not pad to a length that stands nowhere.
    expect(await readJson(join(folder, "tokenizer_config.json"))).toEqual({
      tokenizer_class: "CLIPTokenizer",
      pad_token: "!",
      model_max_length: 77,
    });
    expect((await loadTokenizerFolder(folder)).encode("a").ids).toEqual(former.encode("a").ids);

    await saveTokenizerFolder(folder, former.withTokens(["sks"]));
    expect((await loadTokenizerFolder(folder)).encode("a sks").ids.slice(0, 4)).toEqual(Int32Array.of(2, 1, 4, 3));

    await saveTokenizerFolder(folder, loadTokenizer({ vocab, merges: [], addedTokens: { sks: 4 } }));
    expect(await readJson(join(folder, "added_tokens.json"))).toEqual({ sks: 4 });

    await saveTokenizerFolder(folder, loadTokenizer({ tokenizerJson }));
    expect((await readdir(folder)).sort()).toEqual([...texts, "tokenizer.json"].sort());
    expect(await readJson(join(folder, "tokenizer_config.json"))).toMatchObject({
      tokenizer_class: "CLIPTokenizerFast",
    });
    expect((await loadTokenizerFolder(folder)).files).toMatchObject({ tokenizerJson });
  });
});
