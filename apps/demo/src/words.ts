import { captionWords } from "../../../recipes/emoji/src/captions.js";
import { nearestWord, unknownWords } from "../../../recipes/emoji/src/prompts.js";
import { quickstartWords } from "../../../recipes/emoji/src/quickstart-subset.js";

/** A word of a prompt that the models never met. */
export interface UnknownWord {
  readonly word: string;
  /** The known word that was probably meant, if there is one. */
  readonly nearest: string | undefined;
}

/**
 * What a user should change in a prompt. Its last word counts only once it cannot become a known one.
 *
 * @example
 * unknownIn("a red aple, fla"); // [{ word: "aple", nearest: "apple" }]
 */
export function unknownIn(prompt: string): UnknownWord[] {
  const last = /[\p{L}\p{N}]$/u.test(prompt) ? captionWords(prompt).at(-1) : undefined;
  const isUnfinished = (word: string): boolean =>
    word === last && [...quickstartWords].some((known) => known.startsWith(word));
  return unknownWords(prompt, quickstartWords)
    .filter((word) => !isUnfinished(word))
    .map((word) => ({ word, nearest: nearestWord(word, quickstartWords) }));
}

/** The prompt with another word in place of each occurrence of one. */
export function replaceWord(prompt: string, word: string, other: string): string {
  return prompt.replace(/\p{L}+|\p{N}/gu, (found) => (found.toLowerCase() === word ? other : found));
}
