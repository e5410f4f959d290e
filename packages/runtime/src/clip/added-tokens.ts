/**
 * A token beyond the vocabulary, or one of its special tokens: it is looked for in a prompt before the prompt is split into
 * words. The fields of transformers' `AddedToken`.
 */
export interface AddedToken {
  readonly id: number;
  readonly content: string;
  /** White space to its left, or to its right, is part of it. */
  readonly lstrip: boolean;
  readonly rstrip: boolean;
  /** Found where it stands alone, not inside a word. */
  readonly single_word: boolean;
  /** For CLIPTokenizerFast: looked for in the normalised prompt (in lower case), not in the prompt as it is written. */
  readonly normalized: boolean;
  readonly special: boolean;
}

/** A stretch of a prompt: a token, or text that is to be split into words. */
export type Section = AddedToken | string;

/** Finds added tokens in a prompt: at each place the longest, from left to right. */
export type SectionSplitter = (prompt: string) => Section[];

/**
 * As transformers' `CLIPTokenizer` does it: in the prompt as it is written, whatever `normalized` says. A `single_word` token
 * with anything but a space beside it is text.
 */
export function clipSections(tokens: readonly AddedToken[]): SectionSplitter {
  const byContent = new Map(tokens.map((token) => [token.content, token]));
  const pattern = longestFirst([...byContent.keys()]);
  return (prompt) => {
    const parts = splitAt(prompt, pattern);
    for (let index = 0; index < parts.length; index++) {
      const token = byContent.get(parts[index]!);
      if (token === undefined) continue;
      const { [index - 1]: left = "", [index + 1]: right = "" } = parts;
      if (token.rstrip && right !== "") parts[index + 1] = right.trimStart();
      if (token.lstrip && left !== "") parts[index - 1] = left.trimEnd();
      if (!token.single_word) continue;
      if (left !== "" && !left.endsWith(" ")) {
        parts[index - 1] = parts[index - 1]! + token.content;
        parts[index] = "";
      } else if (right !== "" && !right.startsWith(" ")) {
        parts[index + 1] = token.content + parts[index + 1]!;
        parts[index] = "";
      }
    }
    return parts.filter((part) => part !== "").map((part) => byContent.get(part) ?? part);
  };
}

/**
 * As transformers' `CLIPTokenizerFast` does it, by Hugging Face's tokenizers (`AddedVocabulary`): first the tokens that are not
 * `normalized`, then, in what is left and normalised, the others. A `single_word` token with a letter, a digit or a mark
 * beside it is text. Text comes out normalised.
 */
export function fastClipSections(tokens: readonly AddedToken[], normalize: (text: string) => string): SectionSplitter {
  const written = tokens.filter(({ normalized }) => !normalized);
  const splitWritten = wordAwareSplitter(new Map(written.map((token) => [token.content, token])));
  const normalized = tokens.filter((token) => token.normalized);
  const splitNormalized = wordAwareSplitter(new Map(normalized.map((token) => [normalize(token.content), token])));
  return (prompt) =>
    splitWritten(prompt).flatMap((section) =>
      typeof section === "string" ? splitNormalized(normalize(section)) : [section],
    );
}

/** What `\w` of Rust's regular expressions stands for. */
const wordBefore = /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]$/u;
const wordAfter = /^[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]/u;

function wordAwareSplitter(byContent: ReadonlyMap<string, AddedToken>): SectionSplitter {
  const pattern = longestFirst([...byContent.keys()]);
  return (text) => {
    const sections: Section[] = [];
    let end = 0; // of the last token, with the white space that it takes
    for (const { 0: content, index } of pattern === undefined ? [] : text.matchAll(pattern)) {
      const token = byContent.get(content)!;
      const before = text.slice(0, index);
      const after = text.slice(index + content.length);
      if (token.single_word && (wordBefore.test(before) || wordAfter.test(after))) continue;
      const start = Math.max(end, token.lstrip ? before.trimEnd().length : index);
      if (start > end) sections.push(text.slice(end, start));
      sections.push(token);
      end = text.length - (token.rstrip ? after.trimStart() : after).length;
    }
    if (end < text.length) sections.push(text.slice(end));
    return sections;
  };
}

/** undefined: nothing to look for. */
function longestFirst(contents: readonly string[]): RegExp | undefined {
  if (contents.length === 0) return undefined;
  const escaped = [...contents]
    .sort((a, b) => b.length - a.length)
    .map((content) => content.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&"));
  return new RegExp(escaped.join("|"), "gu");
}

/** The parts of a text between matches, and the matches. Parts are not empty. */
function splitAt(text: string, pattern: RegExp | undefined): string[] {
  if (pattern === undefined) return [text];
  const parts: string[] = [];
  let end = 0;
  for (const { 0: match, index } of text.matchAll(pattern)) {
    parts.push(text.slice(end, index), match);
    end = index + match.length;
  }
  parts.push(text.slice(end));
  return parts.filter((part) => part !== "");
}
