/** How a picture is described: "a red apple, flat style, on a blue background". */

import { stylePhrases, type EmojiStyle } from "../../emoji-styles.js";

/** Background colours as sRGB bytes. Chosen: far apart from each other, and readable behind most pictures. */
export const backgroundColours = {
  white: [255, 255, 255],
  red: [220, 50, 47],
  orange: [245, 145, 40],
  yellow: [250, 220, 70],
  green: [70, 170, 85],
  blue: [60, 120, 225],
  purple: [130, 75, 180],
  pink: [250, 165, 200],
  gray: [140, 145, 150],
  black: [20, 20, 24],
  brown: [120, 75, 45],
} as const satisfies Record<string, readonly [number, number, number]>;
export type ColourName = keyof typeof backgroundColours;
export const colourNames = Object.keys(backgroundColours) as readonly ColourName[];

export interface CaptionParts {
  /** The concept with its article: "a red apple", "french fries". */
  readonly subject: string;
  /** One more word about the concept: "fruit". */
  readonly keyword?: string | undefined;
  readonly style?: EmojiStyle | undefined;
  readonly colour?: ColourName | undefined;
}

/**
 * Writes a caption; parts that are left out are left out of the sentence.
 *
 * @example
 * composeCaption({ subject: "a red apple", style: "fluent-flat", colour: "blue" });
 * // "a red apple, flat style, on a blue background"
 */
export function composeCaption({ subject, keyword, style, colour }: CaptionParts): string {
  const parts = [subject];
  if (keyword !== undefined) parts.push(keyword);
  if (style !== undefined) parts.push(stylePhrases[style]);
  if (colour !== undefined) parts.push(`on ${colour === "orange" ? "an" : "a"} ${colour} background`);
  return parts.join(", ");
}

/**
 * The words of a text as CLIP's pre-tokenizer separates them: lower-case runs of letters, and single digits.
 *
 * @example
 * captionWords("A T-shirt, 3d style"); // ["a", "t", "shirt", "3", "d", "style"]
 */
export function captionWords(text: string): string[] {
  return text.toLowerCase().match(/\p{L}+|\p{N}/gu) ?? [];
}
