import { random } from "@sdxs/tensor";
import { quickstartPrompts } from "../quickstart-subset.js";

/**
 * Prompts that are shown, and then others of the evaluation's in random order.
 *
 * @param shown default: the quickstart's
 */
export function pickPrompts(
  prompts: readonly string[],
  count: number,
  seed: number,
  shown: readonly string[] = quickstartPrompts,
): string[] {
  const shuffled = Array.from(random(seed, "prompts").permutation(prompts.length), (row) => prompts[row] ?? "");
  return [...new Set([...shown, ...shuffled])].slice(0, count);
}
