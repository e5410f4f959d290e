import { beforeAll, describe, expect, it } from "vitest";
import { readEmojiPack, type EmojiPack } from "../../emoji-pack.js";
import { backgroundKinds } from "./backgrounds.js";
import { sceneSize } from "./canvas.js";
import { colourName, colourNames } from "./colours.js";
import { dataFolder, openScenes, type SceneSample, type SceneSource } from "./scenes.js";
import { things } from "./things.js";

/** Decoded in a moment; some share a noun, some cannot be counted, some have one vivid colour. */
const concepts =
  "cat|cat face|black cat|mouse|red heart|red apple|green apple|banana|jeans|french fries|car|taxi".split("|");

let pack: EmojiPack;
let scenes: SceneSource;
let samples: SceneSample[];

beforeAll(async () => {
  pack = await readEmojiPack(dataFolder, "emoji-128");
  const few = pack.manifest.concepts.filter(({ name }) => concepts.includes(name));
  scenes = await openScenes({ ...pack, manifest: { ...pack.manifest, concepts: few } });
  samples = Array.from({ length: 250 }, (_, index) => scenes.sample(7, index));
});

describe("the pack", () => {
  it("holds what the vocabulary names, at least 250 concepts, all in four styles and most in five", () => {
    expect(pack.manifest.concepts.map(({ name }) => name).sort()).toEqual([...things.keys()].sort());
    expect(things.size).toBeGreaterThanOrEqual(250);
    const styles = pack.manifest.concepts.map(({ pictures }) => Object.keys(pictures).length);
    expect(Math.min(...styles)).toBe(4);
    expect(styles.filter((count) => count === 5).length).toBeGreaterThan(0.75 * things.size);
  });
});

describe("SceneSource", () => {
  it("gives the same scene for the same seed and index, and others for others", () => {
    expect(scenes.sample(1, 12)).toEqual(scenes.sample(1, 12));
    expect(scenes.sample(1, 12).image).not.toEqual(scenes.sample(1, 13).image);
    expect(scenes.sample(1, 12).image).not.toEqual(scenes.sample(2, 12).image);
  });

  it("stacks the same samples", () => {
    const { images, captions } = scenes.batch(3, 40, 2);
    expect(images.shape).toEqual([2, 3, sceneSize, sceneSize]);
    const second = scenes.sample(3, 41);
    expect(captions[1]).toBe(second.caption);
    expect(images.data.slice(images.data.length / 2)).toEqual(second.image);
  });

  it.each(backgroundKinds)("draws values of pictures on %s", (background) => {
    const { image } = scenes.sample(1, 3, { background });
    expect(image.every((value) => value >= -1 && value <= 1)).toBe(true);
    expect(new Set(image).size).toBeGreaterThan(8);
  });

  it("shows one to three things, all inside, and no two concepts of one noun", () => {
    for (const { scene } of samples) {
      expect(scene.groups.reduce((sum, { count }) => sum + count, 0)).toBeGreaterThanOrEqual(1);
      expect(scene.groups.reduce((sum, { count }) => sum + count, 0)).toBeLessThanOrEqual(3);
      const nouns = scene.groups.flatMap(({ thing }) => thing.nouns.map(({ singular }) => singular));
      expect(new Set(nouns).size).toBe(nouns.length);
      for (const { placements, count, thing } of scene.groups) {
        expect(placements).toHaveLength(count);
        if (thing.nouns.some(({ plural }) => plural === undefined)) expect(count).toBe(1);
      }
    }
  });
});

describe("captions", () => {
  it("count truly, and name nothing that is not there", () => {
    for (const { caption, scene } of samples) {
      for (const [word, number] of [
        ["two", 2],
        ["three", 3],
      ] as const) {
        if (!new RegExp(`\\b${word}\\b`).test(caption)) continue;
        expect(
          scene.groups.map(({ count }) => count),
          caption,
        ).toContain(number);
      }
      for (const [name, { nouns }] of things) {
        if (!concepts.includes(name)) continue;
        for (const { plural } of nouns) {
          // "Black cats" are black cats, or cats that are black.
          if (plural === undefined || plural === "black cats" || !new RegExp(`\\b${plural}\\b`).test(caption)) continue;
          const shown = scene.groups.filter(({ thing }) => thing.nouns.some((noun) => noun.plural === plural));
          expect(
            shown.map(({ count }) => count > 1),
            caption,
          ).toEqual([true]);
        }
      }
    }
  });

  it("name only colours of the things and of what is behind", () => {
    for (const { caption, scene } of samples) {
      const behind = scene.background.phrases.join(" ");
      const allowed = scene.groups.flatMap(({ colour, thing }) => [
        colour,
        ...thing.nouns.map(({ singular }) => singular),
      ]);
      for (const colour of colourNames) {
        if (!new RegExp(`\\b${colour}\\b`).test(caption)) continue;
        expect(`${behind} ${allowed.join(" ")}`, caption).toContain(colour);
      }
    }
  });

  it("leave some of it out, and some of them not", () => {
    const ofTwo = samples.filter(({ scene }) => scene.groups.length === 2);
    const both = ofTwo.filter(({ caption }) => / (?:and|with|next to) /.test(caption));
    expect(both.length / ofTwo.length).toBeGreaterThan(0.4);
    expect(both.length / ofTwo.length).toBeLessThan(0.9);
    const styled = samples.filter(({ caption }) => caption.endsWith(" style"));
    expect(styled.length / samples.length).toBeGreaterThan(0.4);
    expect(styled.length / samples.length).toBeLessThan(0.6);
  });
});

describe("colours of things", () => {
  it.each(["red heart", "banana"])("are those of most of the %s's pixels, given ones too", (name) => {
    let given = 0;
    for (let index = 0; index < 30; index++) {
      const { image, scene } = scenes.sample(5, index, { names: [name], counts: [1], background: "plain" });
      const { colour, isRecoloured } = scene.groups[0]!;
      if (colour === undefined) continue;
      if (isRecoloured) given++;
      expect(coloursOf(image)[0], `${name} ${index}`).toBe(colour);
    }
    expect(given).toBeGreaterThan(2);
  });
});

/** Names of the colours of what differs from the upper left corner, the most frequent first. */
function coloursOf(image: Float32Array): string[] {
  const area = sceneSize * sceneSize;
  const byte = (channel: number, pixel: number): number => 127.5 * (1 + image[channel * area + pixel]!);
  const votes = new Map<string, number>();
  for (let pixel = 0; pixel < area; pixel++) {
    const distance = Math.hypot(...[0, 1, 2].map((channel) => byte(channel, pixel) - byte(channel, 0)));
    if (distance < 40) continue;
    const name = colourName(byte(0, pixel), byte(1, pixel), byte(2, pixel)) ?? "none";
    votes.set(name, (votes.get(name) ?? 0) + 1);
  }
  return [...votes].sort(([, one], [, other]) => other - one).map(([name]) => name);
}
