/**
 * The 256 characters that stand for bytes in a byte-level vocabulary (Radford et al. 2019, "Language Models are
 * Unsupervised Multitask Learners", section 2.2): printable Latin-1 stands for itself, the other bytes take the code
 * points from 256 on. In the order of GPT-2's and CLIP's vocabularies: those that stand for themselves first.
 */
export const byteCharacters: readonly string[] = (() => {
  const printable = (byte: number) => (byte >= 33 && byte <= 126) || (byte >= 161 && byte !== 173);
  const bytes = Array.from({ length: 256 }, (_, byte) => byte);
  const replaced = bytes.filter((byte) => !printable(byte)).map((_, position) => 256 + position);
  return [...bytes.filter(printable), ...replaced].map((codePoint) => String.fromCodePoint(codePoint));
})();

/**
 * Byte-pair encoding (Sennrich et al. 2016, https://arxiv.org/abs/1508.07909, algorithm 1): joins the most frequent
 * pair of neighbours, again and again. Equal counts are settled by the pairs' text, so that the result is fixed.
 *
 * @param wordCounts how often each word occurs; letters a-z and digits only.
 * @returns at most `count` merges, in order; fewer when every word has become one token.
 */
export function learnMerges(wordCounts: ReadonlyMap<string, number>, count: number): [string, string][] {
  const words = [...wordCounts].map(([word, occurrences]) => {
    const characters = Array.from(word);
    return { pieces: [...characters.slice(0, -1), `${characters.at(-1) ?? ""}</w>`], occurrences };
  });
  const merges: [string, string][] = [];
  while (merges.length < count) {
    const best = mostFrequentPair(words);
    if (best === undefined) break;
    merges.push(best);
    for (const word of words) word.pieces = joinPair(word.pieces, best);
  }
  return merges;
}

function mostFrequentPair(
  words: readonly { readonly pieces: readonly string[]; readonly occurrences: number }[],
): [string, string] | undefined {
  const counts = new Map<string, number>();
  for (const { pieces, occurrences } of words) {
    for (let position = 1; position < pieces.length; position++) {
      const pair = `${pieces[position - 1] ?? ""} ${pieces[position] ?? ""}`;
      counts.set(pair, (counts.get(pair) ?? 0) + occurrences);
    }
  }
  let best: string | undefined;
  let highest = 0;
  for (const [pair, total] of counts) {
    if (total > highest || (total === highest && best !== undefined && pair < best)) [best, highest] = [pair, total];
  }
  const [first, second] = best?.split(" ") ?? [];
  return first === undefined || second === undefined ? undefined : [first, second];
}

function joinPair(pieces: readonly string[], [first, second]: readonly [string, string]): string[] {
  const joined: string[] = [];
  for (const piece of pieces) {
    if (piece === second && joined.at(-1) === first) joined[joined.length - 1] = first + second;
    else joined.push(piece);
  }
  return joined;
}
