import { random } from "@sdxs/tensor";
import { quickstartPrompts } from "../quickstart-subset.js";

/** The quickstart's prompts, which are shown, and then others of the evaluation's in random order. */
export function pickPrompts(prompts: readonly string[], count: number, seed: number): string[] {
  const shuffled = Array.from(random(seed, "prompts").permutation(prompts.length), (row) => prompts[row] ?? "");
  return [...new Set([...quickstartPrompts, ...shuffled])].slice(0, count);
}
