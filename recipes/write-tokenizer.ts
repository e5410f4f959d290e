import { mkdir, writeFile } from "node:fs/promises";
import { byteCharacters, learnMerges } from "./byte-pair-encoding.js";

const begin = "<|startoftext|>";
const end = "<|endoftext|>";

export interface TokenizerOptions {
  readonly vocabularySize: number;
  /** Ids of a prompt with begin and end. */
  readonly maximumLength: number;
}

/** Learns a byte-pair encoding of words, by how often each occurs, and writes it in the files of CLIP's tokenizer. */
export async function writeTokenizer(
  wordCounts: ReadonlyMap<string, number>,
  { vocabularySize, maximumLength }: TokenizerOptions,
  folder: URL,
): Promise<void> {
  const merges = learnMerges(wordCounts, vocabularySize - 2 * byteCharacters.length - 2);
  // The order of CLIP's vocabulary: bytes, bytes that end a word, merges, the two markers.
  const tokens = [
    ...byteCharacters,
    ...byteCharacters.map((character) => `${character}</w>`),
    ...merges.map(([first, second]) => first + second),
    begin,
    end,
  ];
  const vocabulary = Object.fromEntries(tokens.map((token, id) => [token, id]));
  const configuration = {
    tokenizer_class: "CLIPTokenizer",
    bos_token: begin,
    eos_token: end,
    unk_token: end,
    pad_token: end,
    do_lower_case: true,
    model_max_length: maximumLength,
  };
  await mkdir(folder, { recursive: true });
  const write = (name: string, text: string) => writeFile(new URL(name, folder), text);
  await write("vocab.json", `${JSON.stringify(vocabulary)}\n`);
  await write("merges.txt", ["#version: 0.2", ...merges.map((pair) => pair.join(" ")), ""].join("\n"));
  await write("tokenizer_config.json", `${JSON.stringify(configuration, null, 2)}\n`);
  console.log(`tokenizer: ${tokens.length} tokens`);
}
