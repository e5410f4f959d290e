import { beforeAll, describe, expect, it } from "vitest";
import { backgroundColours, captionWords, colourNames, composeCaption } from "./captions.js";
import { emojiStyles } from "../../emoji-styles.js";
import { isHeldOutColour, isHeldOutStyle, loadEmojiDataset, type EmojiDataset } from "./dataset.js";
import type { EmojiPack } from "../../emoji-pack.js";
import { readOwnPack } from "./data.js";
import { unknownWords } from "./prompts.js";
import { quickstartConcepts, quickstartPrompts, quickstartWords } from "./quickstart-subset.js";
import { readTokenizer } from "./tokenizer.js";

let pack: EmojiPack;
let quickstart: EmojiDataset;
beforeAll(async () => {
  pack = await readOwnPack();
  quickstart = await loadEmojiDataset({ pack });
});

const key = ({ concept, style, colour }: EmojiDataset["trainingCombinations"][number]) =>
  [concept.name, style, colour].join("/");

describe("EmojiDataset.sample", () => {
  it("depends on seed and index alone", async () => {
    const again = await loadEmojiDataset({ pack });
    again.sample(7, 0);
    expect(again.sample(7, 123)).toEqual(quickstart.sample(7, 123));
    expect(quickstart.sample(8, 123).image).not.toEqual(quickstart.sample(7, 123).image);
    expect(quickstart.sample(7, 124).image).not.toEqual(quickstart.sample(7, 123).image);
  });

  it("gives images in [-1, 1] whose corners show the background's colour", () => {
    for (let index = 0; index < 50; index++) {
      const { image, colour } = quickstart.sample(1, index);
      expect(image.length).toBe(3 * 64 * 64);
      expect(image.every((value) => value >= -1 && value <= 1)).toBe(true);
      const corner = [0, 1, 2].map((channel) => Math.round(((image[channel * 4096] ?? 0) + 1) * 127.5));
      expect(corner).toEqual([...backgroundColours[colour]]);
    }
  });

  it("describes its concept, style and background, and leaves out a style or white now and then", () => {
    const samples = Array.from({ length: 1000 }, (_, index) => quickstart.sample(2, index));
    expect(samples.every(({ caption, concept }) => caption.startsWith(concept.subject))).toBe(true);
    const unstyled = samples.filter(({ caption }) => !caption.includes("style"));
    // 1,000 draws with rate 0.1: standard deviation 9.5, so 5 of them to either side.
    expect(Math.abs(unstyled.length - 100)).toBeLessThan(48);
    const plain = samples.filter(({ caption }) => !caption.includes("background"));
    expect(plain.length).toBeGreaterThan(0);
    expect(plain.every(({ colour }) => colour === "white")).toBe(true);
  });

  it("never cuts a picture off: the border beyond its box keeps the background", () => {
    for (let index = 0; index < 200; index++) {
      const sample = quickstart.sample(3, index);
      const whole = quickstart.render(sample);
      const covered = (image: Float32Array) =>
        Array.from({ length: 4096 }, (_, pixel) => pixel).filter((pixel) =>
          [0, 1, 2].some(
            (channel) =>
              Math.abs(
                (image[channel * 4096 + pixel] ?? 0) - (backgroundColours[sample.colour][channel] ?? 0) / 127.5 + 1,
              ) > 0.02,
          ),
        ).length;
      // A scale of at least 0.85 keeps 0.72 of the area; a third of it lost would show a cut.
      expect(covered(sample.image)).toBeGreaterThan(0.65 * covered(whole));
    }
  });
});

describe("EmojiDataset.render", () => {
  it("without placement shows the picture's own pixels blended over the background", async () => {
    const { default: sharp } = await import("sharp");
    const combination = quickstart.trainingCombinations[0];
    if (combination === undefined) throw new Error("the data set is empty");
    const { concept, style, colour } = combination;
    const [offset, length] = concept.pictures[style] ?? [0, 0];
    const [r, g, b] = backgroundColours[colour];
    // The same composition by libvips.
    const expected = await sharp(pack.pictureFile.subarray(offset, offset + length))
      .flatten({ background: { r, g, b } })
      .raw()
      .toBuffer();
    const image = quickstart.render(combination);
    for (let pixel = 0; pixel < 4096; pixel++) {
      for (let channel = 0; channel < 3; channel++) {
        const byte = ((image[channel * 4096 + pixel] ?? 0) + 1) * 127.5;
        // libvips rounds down, premultiplication rounds to nearest: together less than 2 levels.
        expect(Math.abs(byte - (expected[3 * pixel + channel] ?? 0))).toBeLessThan(2);
      }
    }
  });

  it("shifts by whole pixels exactly", () => {
    const combination = quickstart.trainingCombinations[0];
    if (combination === undefined) throw new Error("the data set is empty");
    const still = quickstart.render(combination);
    const shifted = quickstart.render(combination, { scale: 1, shiftX: 2, shiftY: -1 });
    for (let y = 10; y < 50; y++) {
      for (let x = 10; x < 50; x++) expect(shifted[y * 64 + x]).toBe(still[(y + 1) * 64 + x - 2]);
    }
  });
});

describe("EmojiDataset.batch", () => {
  it("stacks consecutive samples", () => {
    const { images, captions } = quickstart.batch(5, 10, 3);
    expect(images.shape).toEqual([3, 3, 64, 64]);
    const middle = quickstart.sample(5, 11);
    expect(captions[1]).toBe(middle.caption);
    expect(images.data.subarray(3 * 4096, 6 * 4096)).toEqual(middle.image);
  });
});

describe("the splits", () => {
  it("share no combination, and training shows no held-out pair", () => {
    const training = new Set(quickstart.trainingCombinations.map(key));
    expect(quickstart.heldOutCombinations.some((combination) => training.has(key(combination)))).toBe(false);
    for (const { concept, style, colour } of quickstart.trainingCombinations) {
      expect(isHeldOutStyle(concept.name, style) || isHeldOutColour(concept.name, colour)).toBe(false);
    }
    const samples = Array.from({ length: 500 }, (_, index) => quickstart.sample(4, index));
    expect(samples.every((sample) => training.has(key(sample)))).toBe(true);
  });

  it("hold out about a tenth, and leave every concept, style and colour in training", () => {
    const total = quickstart.trainingCombinations.length + quickstart.heldOutCombinations.length;
    expect(total).toBe(quickstartConcepts.length * 2 * 8);
    const share = quickstart.heldOutCombinations.length / total;
    expect(share).toBeGreaterThan(0.08);
    expect(share).toBeLessThan(0.22);
    expect(new Set(quickstart.trainingCombinations.map(({ concept }) => concept.name)).size).toBe(
      quickstartConcepts.length,
    );
  });

  it("are the same for every subset of the data", async () => {
    const subset = await loadEmojiDataset({ pack, concepts: ["red apple", "pizza"], styles: emojiStyles });
    const wide = new Set(subset.trainingCombinations.map(key));
    for (const combination of quickstart.heldOutCombinations) expect(wide.has(key(combination))).toBe(false);
  });

  it("vanish where nothing is to be held out", async () => {
    const all = await loadEmojiDataset({ pack, concepts: ["red apple", "pizza"], holdOut: false });
    expect(all.heldOutCombinations).toEqual([]);
    expect(all.trainingCombinations.length).toBe(2 * 2 * 8);
  });
});

describe("the quickstart's subset", () => {
  it("has about 110 concepts, each drawn in every style", () => {
    expect(quickstartConcepts.length).toBeGreaterThanOrEqual(50);
    expect(new Set(quickstartConcepts).size).toBe(quickstartConcepts.length);
    for (const name of quickstartConcepts) {
      const concept = pack.manifest.concepts.find((candidate) => candidate.name === name);
      expect(Object.keys(concept?.pictures ?? {})).toEqual(expect.arrayContaining(["noto", "fluent-flat"]));
    }
  });

  it("knows every word of its captions and of the ten showcase prompts", () => {
    for (let index = 0; index < 500; index++) {
      expect(unknownWords(quickstart.sample(6, index).caption, quickstart.words)).toEqual([]);
    }
    expect(quickstartWords).toEqual(quickstart.words);
    expect(quickstartPrompts.length).toBe(10);
    for (const prompt of quickstartPrompts) expect(unknownWords(prompt, quickstart.words)).toEqual([]);
  });

  it("makes each of its words one token, so that no caption exceeds 16 tokens", async () => {
    const tokenizer = await readTokenizer();
    for (const word of quickstart.words) expect(tokenizer.tokenize(word)).toEqual([`${word}</w>`]);
    const lengths = Array.from(
      { length: 500 },
      (_, index) => tokenizer.encode(quickstart.sample(9, index).caption).length,
    );
    expect(Math.max(...lengths)).toBeLessThanOrEqual(16);
  });
});

describe("the whole pack", () => {
  it("has no caption that the tokenizer must cut: the longest takes all of its 20 tokens", async () => {
    const tokenizer = await readTokenizer();
    let longest = 0;
    for (const { subject } of pack.manifest.concepts) {
      const caption = composeCaption({ subject, style: "fluent-3d", colour: "orange" });
      longest = Math.max(longest, tokenizer.encode(caption, 77).length);
    }
    expect(longest).toBe(20);
    expect(tokenizer.maximumLength).toBe(20);
  });

  it("offers every style and colour except black lines on black", async () => {
    const dataset = await loadEmojiDataset({ pack, concepts: ["car"], styles: emojiStyles, colours: colourNames });
    const all = [...dataset.trainingCombinations, ...dataset.heldOutCombinations];
    expect(all.length).toBe(5 * 11 - 1);
    expect(captionWords(dataset.sample(1, 1).caption)).toContain("car");
  });
});

describe("loadEmojiDataset", () => {
  it("refuses a concept that the pack lacks", async () => {
    await expect(loadEmojiDataset({ pack, concepts: ["red aple"] })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringContaining('no concept "red aple"') as string,
    });
  });

  it("refuses a picture that cannot be decoded", async () => {
    const pictureFile = pack.pictureFile.slice().fill(0);
    await expect(loadEmojiDataset({ pack: { ...pack, pictureFile }, concepts: ["car"] })).rejects.toMatchObject({
      code: "MALFORMED_FILE",
    });
  });
});
