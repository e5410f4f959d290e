/** Splits text without added tokens into pieces of the vocabulary, "photo" into ["photo</w>"]. */
export type PieceSplitter = (text: string) => string[];

/** CLIP's vocabulary has so many merges; transformers' `CLIPTokenizer` reads no more. */
const MOST_MERGES = 49152 - 256 - 2;

/**
 * CLIP's byte pairs as transformers' `CLIPTokenizer` makes them where the Python package ftfy is not installed: Chinese
 * characters are words of their own, control characters vanish, the text is NFC in lower case.
 *
 * @param merges pairs "a b", the first to be merged first
 */
export function clipPieces(merges: readonly string[]): PieceSplitter {
  const ranks = new Map(merges.slice(0, MOST_MERGES).map((pair, rank) => [pair, rank]));
  return (text) => [...cleaned(text).matchAll(words)].flatMap(([word]) => bytePairs(word, ranks));
}

/**
 * The pattern of OpenAI's simple_tokenizer.py, in which case does not count: a long s is an s, and the iota below a letter
 * (U+0345), whose capital is a letter, is neither a letter nor anything else.
 */
const words = /<\|startoftext\|>|<\|endoftext\|>|'[sſ]|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}\u0345]+/gu;

/** The blocks of CJK ideographs that transformers' `BasicTokenizer` sets apart. */
const ideographs =
  /[\u{3400}-\u{4dbf}\u{4e00}-\u{9fff}\u{f900}-\u{faff}\u{20000}-\u{2a6df}\u{2a700}-\u{2ceaf}\u{2f800}-\u{2fa1f}]/gu;

const cleaned = (text: string): string =>
  text
    .replace(/[\t\n\r\p{Zs}]/gu, " ")
    .replace(/[\p{C}\ufffd]/gu, "")
    .replace(ideographs, " $& ")
    .normalize("NFC")
    .toLowerCase();

/** The word's bytes as characters, the pair of lowest rank merged until none is left that may be. */
function bytePairs(word: string, ranks: ReadonlyMap<string, number>): string[] {
  if (word === "<|startoftext|>" || word === "<|endoftext|>") return [word];
  let pieces = Array.from(new TextEncoder().encode(word), (byte) => byteCharacters[byte]!);
  pieces.push(`${pieces.pop()!}</w>`);
  for (;;) {
    let [lowest, first, second] = [Infinity, "", ""];
    for (let index = 1; index < pieces.length; index++) {
      const [left, right] = [pieces[index - 1]!, pieces[index]!];
      const rank = ranks.get(`${left} ${right}`) ?? Infinity;
      if (rank < lowest) [lowest, first, second] = [rank, left, right];
    }
    if (lowest === Infinity) return pieces;
    const merged: string[] = [];
    for (let index = 0; index < pieces.length; index++) {
      const isPair = pieces[index] === first && pieces[index + 1] === second;
      merged.push(isPair ? first + second : pieces[index]!);
      if (isPair) index++;
    }
    pieces = merged;
  }
}

/** GPT-2's characters for bytes: printable ones stand for themselves, the others for characters from U+0100 on. */
const byteCharacters = ((): string[] => {
  const isPrintable = (byte: number): boolean =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xff && byte !== 0xad);
  let others = 0;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(isPrintable(byte) ? byte : 0x100 + others++));
})();
const bytesOfCharacters = new Map(byteCharacters.map((character, byte) => [character, byte]));

/** The text of pieces; what is no whole character in UTF-8 becomes U+FFFD. */
export function textOfPieces(pieces: readonly string[]): string {
  const characters = Array.from(pieces.join("").replaceAll("</w>", byteCharacters[0x20]!));
  const bytes = characters.flatMap((character) => {
    const byte = bytesOfCharacters.get(character);
    return byte === undefined ? [...new TextEncoder().encode(character)] : [byte];
  });
  return new TextDecoder().decode(Uint8Array.from(bytes));
}
