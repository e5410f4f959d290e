import { expect, it } from "vitest";
import { replaceWord, unknownIn } from "./words.js";

it("finds no fault with what the models know, nor with a word that may become known", () => {
  expect(unknownIn("a red apple, flat style, on a blue background")).toEqual([]);
  expect(unknownIn("A RED Apple, fla")).toEqual([]);
  expect(unknownIn("")).toEqual([]);
});

it("names unknown words with the nearest known one", () => {
  expect(unknownIn("a red aple, fla")).toEqual([{ word: "aple", nearest: "apple" }]);
  expect(unknownIn("a fla ")).toEqual([{ word: "fla", nearest: "flat" }]); // finished by the space
  expect(unknownIn("a dinosaur")).toEqual([{ word: "dinosaur", nearest: undefined }]);
});

it("replaces whole words, however they are written", () => {
  expect(replaceWord("Aple, an aple, aples", "aple", "apple")).toBe("apple, an apple, aples");
});
