import { SdxsError } from "@sdxs/tensor";
import { captionWords } from "./captions.js";
import { quickstartPrompts } from "./quickstart-subset.js";

/**
 * The words of a prompt that no caption contains, each once, in the prompt's order.
 *
 * @example
 * unknownWords("a red aple", dataset.words); // ["aple"]
 */
export function unknownWords(prompt: string, knownWords: ReadonlySet<string>): string[] {
  return [...new Set(captionWords(prompt))].filter((word) => !knownWords.has(word));
}

/**
 * Refuses a prompt with words that the model never met.
 *
 * @throws SdxsError `UNKNOWN_WORD`, with the nearest known word for each.
 */
export function assertKnownWords(prompt: string, knownWords: ReadonlySet<string>): void {
  const unknown = unknownWords(prompt, knownWords);
  if (unknown.length === 0) return;
  const problems = unknown.map((word) => {
    const nearest = nearestWord(word, knownWords);
    return nearest === undefined ? `"${word}"` : `"${word}" (did you mean "${nearest}"?)`;
  });
  throw new SdxsError(
    "UNKNOWN_WORD",
    `The model was trained on ${knownWords.size} words; the prompt "${prompt}" has others: ${problems.join(", ")}. ` +
      `Prompts look like "${quickstartPrompts[0]}".`,
  );
}

/** The known word of smallest edit distance, if at most half of the word's letters differ. */
export function nearestWord(word: string, knownWords: ReadonlySet<string>): string | undefined {
  let nearest: string | undefined;
  let smallest = Math.floor(word.length / 2) + 1;
  for (const candidate of knownWords) {
    const distance = editDistance(word, candidate);
    if (distance < smallest) [nearest, smallest] = [candidate, distance];
  }
  return nearest;
}

/** Levenshtein distance: insertions, deletions and substitutions cost 1 each. */
function editDistance(first: string, second: string): number {
  let previous = Array.from({ length: second.length + 1 }, (_, column) => column);
  for (let row = 1; row <= first.length; row++) {
    const current = [row];
    for (let column = 1; column <= second.length; column++) {
      const substitution = (previous[column - 1] ?? 0) + (first[row - 1] === second[column - 1] ? 0 : 1);
      current.push(Math.min((previous[column] ?? 0) + 1, (current[column - 1] ?? 0) + 1, substitution));
    }
    previous = current;
  }
  return previous[second.length] ?? 0;
}
