import { mkdir, writeFile } from "node:fs/promises";
import { captionWords, colourNames, composeCaption, emojiStyles } from "../src/captions.js";
import type { EmojiConcept } from "../src/emoji-pack.js";
import { quickstartConcepts } from "../src/quickstart-subset.js";
import { byteCharacters, learnMerges } from "./byte-pair-encoding.js";

/** Chosen: every word of the quickstart and most of the other names become one token; the rest are few pieces. */
const vocabularySize = 2048;

/** Ids of a prompt with begin and end. Chosen: no caption of the pack without a keyword is longer. */
const maximumLength = 20;

const begin = "<|startoftext|>";
const end = "<|endoftext|>";

/** Trains the recipe's tokenizer on the captions' words and writes it in the files of CLIP's tokenizer. */
export async function writeTokenizer(concepts: readonly EmojiConcept[], folder: URL): Promise<void> {
  const merges = learnMerges(countWords(concepts), vocabularySize - 2 * byteCharacters.length - 2);
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

/** How often each word counts (chosen): those of every caption and of the quickstart most, keywords least. */
function countWords(concepts: readonly EmojiConcept[]): Map<string, number> {
  const counts = new Map<string, number>();
  const add = (text: string, weight: number) => {
    for (const word of captionWords(text)) counts.set(word, (counts.get(word) ?? 0) + weight);
  };
  for (const { name, subject, keywords } of concepts) {
    add(subject, quickstartConcepts.includes(name) ? 1000 : 20);
    for (const keyword of keywords) add(keyword, 1);
  }
  for (const style of emojiStyles) {
    for (const colour of colourNames) add(composeCaption({ subject: "", style, colour }), 1000);
  }
  return counts;
}
