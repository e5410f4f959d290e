/** Plurals that no rule gives. */
const irregularPlurals: Readonly<Record<string, string>> = {
  mouse: "mice",
  goose: "geese",
  wolf: "wolves",
  leaf: "leaves",
  scarf: "scarves",
  knife: "knives",
  loaf: "loaves",
  box: "boxes",
  ox: "oxen",
  fox: "foxes",
  deer: "deer",
  sheep: "sheep",
  fish: "fish",
  blowfish: "blowfish",
  jellyfish: "jellyfish",
  shrimp: "shrimp",
  squid: "squid",
  potato: "potatoes",
  tomato: "tomatoes",
  mango: "mangoes",
  volcano: "volcanoes",
  tornado: "tornadoes",
  cactus: "cacti",
  snowman: "snowmen",
};

/**
 * The plural of a phrase, which is that of its head.
 *
 * @example
 * pluralOf("maple leaf"); // "maple leaves"
 * pluralOf("glass of milk"); // "glasses of milk"
 */
export function pluralOf(phrase: string): string {
  const [, before = "", head = "", after = ""] = /^(.*?)([^ ]+)((?: (?:of|with) .*)?)$/.exec(phrase) ?? [];
  return `${before}${irregularPlurals[head] ?? regularPlural(head)}${after}`;
}

function regularPlural(word: string): string {
  if (/(?:s|x|z|ch|sh)$/.test(word)) return `${word}es`;
  return /[^aeiou]y$/.test(word) ? `${word.slice(0, -1)}ies` : `${word}s`;
}

/**
 * A phrase with its indefinite article.
 *
 * @example
 * withArticle("old unicorn"); // "an old unicorn"
 */
export function withArticle(phrase: string): string {
  return `${/^(?:[aeio]|u(?!ni|fo)|hour)/.test(phrase) ? "an" : "a"} ${phrase}`;
}
