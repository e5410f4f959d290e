import { pathToFileURL } from "node:url";
import { random } from "@sdxs/tensor";
import { readEmojiPack } from "../../emoji-pack.js";
import { stylePhrases } from "../../emoji-styles.js";
import { writeTokenizer } from "../../write-tokenizer.js";
import { backgroundKinds, drawBackground } from "./backgrounds.js";
import { newCanvas } from "./canvas.js";
import { colourNames } from "./colours.js";
import { drawsOf } from "./draws.js";
import { promptTokens } from "./models.js";
import { dataFolder, tokenizerFolder } from "./scenes.js";
import { things } from "./things.js";

/**
 * Learns the tokenizer from the captions' words: nearly all become one token. The pack's keywords count least, so that other
 * words have pieces too.
 */
export async function writeSceneTokenizer(): Promise<void> {
  const { manifest } = await readEmojiPack(dataFolder, "emoji-128");
  await writeTokenizer(
    countWords(manifest.concepts.flatMap(({ keywords }) => keywords)),
    { vocabularySize: 3072, maximumLength: promptTokens },
    pathToFileURL(`${tokenizerFolder}/`),
  );
}

/** What captions say besides things, backgrounds, colours and styles. */
const otherWords = "a an two three big small light dark and with next to";

/** How often each word counts. Chosen: what most captions have most, each thing's nouns alike. */
function countWords(keywords: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  const add = (text: string, weight: number): void => {
    for (const word of captionWords(text)) counts.set(word, (counts.get(word) ?? 0) + weight);
  };
  for (const text of [otherWords, ...colourNames, ...Object.values(stylePhrases)]) add(text, 1000);
  for (const { nouns, category } of things.values()) {
    for (const noun of category ? [...nouns, category] : nouns) add(`${noun.singular} ${noun.plural ?? ""}`, 100);
  }
  for (const kind of backgroundKinds) {
    for (let seed = 0; seed < 8; seed++) {
      const { phrases } = drawBackground(newCanvas(), drawsOf(random(seed, "words")), kind);
      for (const phrase of phrases) add(phrase, 100);
    }
  }
  for (const keyword of keywords) add(keyword, 1);
  return counts;
}

/** Lower-case runs of letters, and single digits, as CLIP's pre-tokenizer separates them. */
function captionWords(text: string): string[] {
  return text.toLowerCase().match(/\p{L}+|\p{N}/gu) ?? [];
}
