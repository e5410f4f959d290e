import { describe, expect, it } from "vitest";
import { captionWords, composeCaption } from "./captions.js";
import { assertKnownWords, unknownWords } from "./prompts.js";

describe("composeCaption", () => {
  it("names what it is given, and no more", () => {
    expect(composeCaption({ subject: "a red apple", style: "fluent-flat", colour: "blue" })).toBe(
      "a red apple, flat style, on a blue background",
    );
    expect(composeCaption({ subject: "cherries", keyword: "fruit", colour: "orange" })).toBe(
      "cherries, fruit, on an orange background",
    );
    expect(composeCaption({ subject: "a car" })).toBe("a car");
  });
});

describe("captionWords", () => {
  it("separates letters and single digits and lowers capitals", () => {
    expect(captionWords("A T-shirt, 3d style")).toEqual(["a", "t", "shirt", "3", "d", "style"]);
  });
});

describe("unknownWords", () => {
  const known = new Set(["a", "red", "apple", "background"]);

  it("lists the words that no caption contains, once each", () => {
    expect(unknownWords("a red Xyzzy, Aple xyzzy", known)).toEqual(["xyzzy", "aple"]);
    expect(unknownWords("A RED apple", known)).toEqual([]);
  });

  it("makes an error that suggests the nearest word where there is one", () => {
    expect(() => assertKnownWords("a red apple", known)).not.toThrow();
    expect(() => assertKnownWords("a red aple", known)).toThrow(
      expect.objectContaining({
        code: "UNKNOWN_WORD",
        message: expect.stringContaining('"aple" (did you mean "apple"?)') as string,
      }),
    );
    expect(() => assertKnownWords("zzzzzz", known)).toThrow(/others: "zzzzzz"\. /);
  });
});
