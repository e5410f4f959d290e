import { describe, expect, it } from "vitest";
import { pluralOf, withArticle } from "./english.js";

describe("pluralOf", () => {
  it.each([
    ["cat", "cats"],
    ["mouse", "mice"],
    ["maple leaf", "maple leaves"],
    ["cherry", "cherries"],
    ["toy", "toys"],
    ["bus", "buses"],
    ["box", "boxes"],
    ["glass of milk", "glasses of milk"],
    ["face with sunglasses", "faces with sunglasses"],
    ["sheep", "sheep"],
    ["snowman", "snowmen"],
  ])("%s: %s", (singular, plural) => {
    expect(pluralOf(singular)).toBe(plural);
  });
});

describe("withArticle", () => {
  it.each(["an apple", "a unicorn", "a ufo", "an umbrella", "an hourglass", "a house", "an orange cat"])(
    "%s",
    (phrase) => {
      expect(withArticle(phrase.replace(/^an? /, ""))).toBe(phrase);
    },
  );
});
