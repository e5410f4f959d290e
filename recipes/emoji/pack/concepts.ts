import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { emojiStyles, type EmojiStyle } from "../../emoji-styles.js";

const require = createRequire(import.meta.url);

/** The part of an Iconify icon set that the pack needs; sizes are in the units of the icons' own view boxes. */
interface IconSet {
  readonly icons: Readonly<Record<string, Icon>>;
  readonly aliases?: Readonly<Record<string, { readonly parent: string }>>;
  readonly width: number;
  readonly height: number;
}
interface Icon {
  /** SVG elements without the enclosing <svg>. */
  readonly body: string;
  readonly left?: number;
  readonly top?: number;
  readonly width?: number;
  readonly height?: number;
}

/** One emoji of `emojibase-data/en/data.json`. */
interface EmojibaseEntry {
  readonly label: string;
  readonly hexcode: string;
  readonly emoji: string;
  readonly tags?: readonly string[];
  readonly group?: number;
  readonly order: number;
}

export interface ConceptSource {
  readonly name: string;
  readonly subject: string;
  readonly group: string;
  readonly keywords: readonly string[];
  /** A complete SVG document for each style that draws the concept. */
  readonly drawings: Readonly<Partial<Record<EmojiStyle, string>>>;
}

/** The npm package behind each style. */
export const stylePackages: Readonly<Record<EmojiStyle, string>> = {
  noto: "@iconify-json/noto",
  "noto-v1": "@iconify-json/noto-v1",
  "fluent-flat": "@iconify-json/fluent-emoji-flat",
  "fluent-3d": "@iconify-json/fluent-emoji",
  "high-contrast": "@iconify-json/fluent-emoji-high-contrast",
};

/**
 * Unicode's groups that show things. People are left out (skin tones, and faces too small for 64 pixels), so are
 * symbols (text glyphs) and flags. Numbers are those of emojibase-data/en/messages.json.
 */
const groups: Readonly<Record<number, string>> = {
  0: "smileys-emotion",
  3: "animals-nature",
  4: "food-drink",
  5: "travel-places",
  6: "activities",
  7: "objects",
};

/** Text rather than a picture. */
const textGlyphs = new Set(["hundred points", "zzz", "anger symbol", "dvd"]);

/** Everyday names for concepts whose Unicode names nobody would type. */
const everydayNames: Readonly<Record<string, string>> = {
  automobile: "car",
  "oncoming automobile": "oncoming car",
  "high voltage": "lightning bolt",
  "deciduous tree": "tree",
  "evergreen tree": "pine tree",
  "soft ice cream": "ice cream cone",
  "ice cream": "bowl of ice cream",
  "hot beverage": "cup of coffee",
  "wrapped gift": "gift box",
  "baguette bread": "baguette",
  "lady beetle": "ladybug",
  honeybee: "bee",
  "mobile phone": "phone",
  "ring buoy": "lifebuoy",
  sauropod: "dinosaur",
  "gem stone": "diamond",
  "game die": "dice",
  "flying saucer": "ufo",
  "jack-o-lantern": "pumpkin",
  "rolling on the floor laughing": "rolling laughing face",
  "star-struck": "star-struck face",
  dizzy: "dizzy star",
  "dashing away": "dash cloud",
  cooking: "frying pan with egg",
  locked: "padlock",
  unlocked: "open padlock",
  "locked with pen": "padlock with pen",
  "locked with key": "padlock with key",
  luggage: "suitcase",
  "hourglass done": "hourglass",
  "hourglass not done": "flowing hourglass",
  "water wave": "ocean wave",
  "meat on bone": "meat with bone",
};

/**
 * Joins names and keywords to drawings. A concept is kept when Noto and all three Fluent sets draw it, so that the
 * Fluent styles are aligned; Noto's first version adds its drawing where it has one.
 */
export function collectConcepts(): ConceptSource[] {
  const entries = readJson<EmojibaseEntry[]>("emojibase-data/en/data.json");
  const emojilib = readJson<Record<string, string[]>>("emojilib/dist/emoji-en-US.json");
  const sets = mapStyles((style) => readJson<IconSet>(`${stylePackages[style]}/icons.json`));
  const notoNames = readJson<Record<string, string>>(`${stylePackages.noto}/chars.json`);
  const fluentNames = readJson<Record<string, string>>(`${stylePackages["fluent-flat"]}/chars.json`);

  const concepts: ConceptSource[] = [];
  for (const entry of [...entries].sort((first, second) => first.order - second.order)) {
    const group = entry.group === undefined ? undefined : groups[entry.group];
    const label = plainWords(entry.label);
    if (group === undefined || textGlyphs.has(label)) continue;
    const codePoints = entry.hexcode.toLowerCase();
    const withoutSelectors = codePoints.replaceAll("-fe0f", "");
    const notoName = notoNames[codePoints] ?? notoNames[withoutSelectors];
    const fluentName = fluentNames[codePoints] ?? fluentNames[withoutSelectors];
    const drawings: Partial<Record<EmojiStyle, string>> = {};
    for (const style of emojiStyles) {
      const iconName = style === "noto" || style === "noto-v1" ? notoName : fluentName;
      const drawing = iconName === undefined ? undefined : svgDocument(sets[style], iconName);
      if (drawing !== undefined) drawings[style] = drawing;
    }
    if (emojiStyles.some((style) => style !== "noto-v1" && drawings[style] === undefined)) continue;
    const name = everydayNames[label] ?? clockName(label) ?? label;
    const keywords = relatedWords(name, [...label.split(" "), ...(entry.tags ?? []), ...(emojilib[entry.emoji] ?? [])]);
    concepts.push({ name, subject: withArticle(name), group, keywords, drawings });
  }
  return concepts;
}

function mapStyles<Value>(value: (style: EmojiStyle) => Value): Record<EmojiStyle, Value> {
  return Object.fromEntries(emojiStyles.map((style) => [style, value(style)])) as Record<EmojiStyle, Value>;
}

function readJson<Value>(path: string): Value {
  return JSON.parse(readFileSync(require.resolve(path), "utf8")) as Value;
}

function svgDocument(set: IconSet, name: string): string | undefined {
  const icon = set.icons[name] ?? set.icons[set.aliases?.[name]?.parent ?? ""];
  if (icon === undefined) return undefined;
  const box = [icon.left ?? 0, icon.top ?? 0, icon.width ?? set.width, icon.height ?? set.height].join(" ");
  // The high-contrast set draws in `currentColor`: black.
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" ` +
    `viewBox="${box}" width="100" height="100" color="#000">${icon.body}</svg>`
  );
}

/** Lower case, without accents and punctuation other than hyphens: "twelve o’clock" becomes "twelve oclock". */
function plainWords(label: string): string {
  return label
    .normalize("NFD")
    .toLowerCase()
    .replace(/[^a-z0-9 -]/g, "");
}

/** "six oclock" becomes "clock showing six", "six-thirty" becomes "clock showing six thirty". */
function clockName(label: string): string | undefined {
  const [, hour, half] = /^(\w+)(?: oclock|-(thirty))$/.exec(label) ?? [];
  if (hour === undefined) return undefined;
  return half === undefined ? `clock showing ${hour}` : `clock showing ${hour} ${half}`;
}

/** At most 6 words (chosen: enough for variety, few enough to stay about the concept) that the name lacks. */
function relatedWords(name: string, candidates: readonly string[]): string[] {
  const nameWords = name.split(/[ -]/);
  // From three letters on, so that ":D" and "xd" stay out.
  const words = candidates.filter((word) => /^[a-z]{3,12}$/.test(word) && !nameWords.includes(word));
  const functionWords = new Set(["and", "for", "the", "with", "without", "from", "not"]);
  return [...new Set(words)].filter((word) => !functionWords.has(word)).slice(0, 6);
}

/** Singular nouns that end in s. */
const singularInS = new Set(
  "bus cactus octopus lotus compass hibiscus minibus trolleybus rhinoceros hippopotamus abacus".split(" "),
);

/** Names that take no article although their head noun is singular in form: materials, sports, proper names. */
const withoutArticle = new Set(
  (
    "bread|flatbread|bacon|butter|salt|popcorn|broccoli|garlic|ginger root|cooked rice|curry rice|spaghetti|oden|sushi|" +
    "canned food|sake|ice|mate|pouring liquid|green salad|leafy green|coral|wood|fog|foggy|fire|soap|dna|" +
    "money with wings|meat with bone|tennis|lacrosse|field hockey|ice hockey|ping pong|badminton|bowling|yarn|mount fuji|" +
    "tokyo tower|statue of liberty|milky way|bubble tea|shaved ice|custard|construction|building construction|camping"
  ).split("|"),
);

/** "apple" becomes "an apple", "cherries" stays. */
function withArticle(name: string): string {
  const head = name.split(/ (?:with|in|of|on|behind|at|over|from|without|and|showing) /)[0] ?? name;
  const noun = head.split(" ").at(-1) ?? head;
  const plural = noun.endsWith("s") && !noun.endsWith("ss") && !singularInS.has(noun);
  if (plural || noun === "dice" || withoutArticle.has(name)) return name;
  const vowelSound = /^(?:[aio]|e(?!uro|we)|u(?!ni|fo)|hour|x-ray)/.test(name) && !name.startsWith("one-");
  return `${vowelSound ? "an" : "a"} ${name}`;
}
