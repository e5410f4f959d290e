import { captionWords, colourNames, composeCaption } from "../src/captions.js";
import { emojiStyles } from "../../emoji-styles.js";
import { writeTokenizer } from "../../write-tokenizer.js";
import type { EmojiConcept } from "../../emoji-pack.js";
import { quickstartConcepts } from "../src/quickstart-subset.js";

/** Trains the emoji recipe's tokenizer on the captions' words and writes it in the files of CLIP's tokenizer. */
export async function writeEmojiTokenizer(concepts: readonly EmojiConcept[], folder: URL): Promise<void> {
  // Chosen: every word of the quickstart and most of the other names become one token; the rest are few pieces. No caption of
  // the pack without a keyword is longer.
  await writeTokenizer(countWords(concepts), { vocabularySize: 2048, maximumLength: 20 }, folder);
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
