/** Captions of scenes: true in all that they say, and silent about some of it. */
import { stylePhrases } from "../../emoji-styles.js";
import { colourNames } from "./colours.js";
import type { Draws } from "./draws.js";
import { withArticle } from "./english.js";
import type { Group, Scene } from "./scene.js";
import type { Noun } from "./things.js";

/** How often a caption says what. Chosen: about half of what could be said is. */
const rates = {
  /** What is behind, and nothing else. */
  backgroundAlone: 0.04,
  /** A group, where there are several; one is always named. */
  group: 0.75,
  /** "two cats" rather than "cats". */
  count: 0.85,
  colour: 0.45,
  /** A colour that is the scene's, which nothing else tells. */
  givenColour: 0.85,
  background: 0.6,
  style: 0.5,
  /** A noun that is not the usual one. */
  synonym: 0.25,
  category: 0.06,
  size: 0.4,
};

const numbers = ["no", "one", "two", "three"];

/** A lone thing is called small below and big above, by the longer side of its canvas in shares of the scene's. Chosen. */
const sizeLimits = { small: 0.55, big: 0.85 };

/** Describes a scene in words; which of them is drawn at random. */
export function captionOf(scene: Scene, draws: Draws): string {
  const { background, style } = scene;
  const what = draws.chance(rates.backgroundAlone) ? background.subject : thingsAndBackground(scene, draws);
  return draws.chance(rates.style) ? `${what}, ${stylePhrases[style]}` : what;
}

function thingsAndBackground(scene: Scene, draws: Draws): string {
  const { groups, background } = scene;
  const told = groups.filter(() => draws.chance(rates.group));
  const named = told.length > 0 ? told : [draws.pick(groups)];
  const phrases = named.map((group) => groupPhrase(group, scene, draws));
  if (draws.chance(0.5)) phrases.reverse();
  const things = joined(phrases, draws);
  if (!draws.chance(rates.background)) return things;
  const [usual = ""] = background.phrases;
  return `${things} ${draws.chance(0.5) ? usual : draws.pick(background.phrases)}`;
}

/** "two red apples" */
function groupPhrase(group: Group, scene: Scene, draws: Draws): string {
  const noun = pickNoun(group, scene, draws);
  const adjectives: string[] = [];
  const size = sizeWord(group, scene);
  if (size !== undefined && draws.chance(rates.size)) adjectives.push(size);
  const { colour, count, isRecoloured } = group;
  const saysColour = colourNames.some((name) => noun.singular.split(" ").includes(name));
  if (colour !== undefined && !saysColour && draws.chance(isRecoloured ? rates.givenColour : rates.colour)) {
    adjectives.push(colour);
  }
  const before = adjectives.map((adjective) => `${adjective} `).join("");
  if (noun.plural === undefined) return `${before}${noun.singular}`;
  if (count === 1) return withArticle(`${before}${noun.singular}`);
  return `${draws.chance(rates.count) ? `${numbers[count]} ` : ""}${before}${noun.plural}`;
}

function sizeWord({ placements }: Group, { groups }: Scene): "small" | "big" | undefined {
  if (groups.length > 1 || placements.length > 1) return undefined;
  const { side } = placements[0]!;
  return side < sizeLimits.small ? "small" : side > sizeLimits.big ? "big" : undefined;
}

function pickNoun({ thing }: Group, { groups }: Scene, draws: Draws): Noun {
  const { nouns, category } = thing;
  // "An animal" would be untrue of two.
  const isOnlyOne = groups.filter((other) => other.thing.category === category).length === 1;
  if (category && isOnlyOne && draws.chance(rates.category)) return category;
  return draws.chance(rates.synonym) ? draws.pick(nouns) : nouns[0];
}

/** "a cat, a dog and two birds" */
function joined(phrases: readonly string[], draws: Draws): string {
  const [last, ...others] = [...phrases].reverse();
  if (others.length === 0) return last ?? "";
  const word = others.length === 1 && draws.chance(0.3) ? draws.pick(["with", "next to"]) : "and";
  return `${others.reverse().join(", ")} ${word} ${last}`;
}
