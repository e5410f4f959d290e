/**
 * The emoji data set: packed pictures on coloured backgrounds, with captions.
 *
 *   const dataset = await loadEmojiDataset();                 // the quickstart's concepts, styles and colours
 *   const all = await loadEmojiDataset({ concepts: "all", styles: emojiStyles, colours: colourNames });
 *   const { images, captions } = dataset.batch(seed, 0, 16);   // [16, 3, 64, 64] in [-1, 1], 16 captions
 *   const sample = dataset.sample(seed, index);                // { image [3, 64, 64], caption, concept, style, colour }
 *   const clean = dataset.render(dataset.heldOutCombinations[0]!);  // no jitter: for evaluation and display
 *
 * `sample(seed, index)` depends on nothing but its arguments and the options.
 */
import { availableParallelism } from "node:os";
import {
  HostTensor,
  InvalidArgumentError,
  MalformedFileError,
  MissingPackageError,
  random,
  type Random,
} from "@sdxs/tensor";
import { backgroundColours, captionWords, composeCaption, type ColourName } from "./captions.js";
import { emojiStyles, type EmojiStyle } from "../../emoji-styles.js";
import type { EmojiConcept, EmojiPack } from "../../emoji-pack.js";
import { readOwnPack } from "./data.js";
import { quickstartColours, quickstartConcepts, quickstartStyles } from "./quickstart-subset.js";

export interface EmojiDatasetOptions {
  /** Names of concepts, or all of the pack. Default: `quickstartConcepts`. */
  readonly concepts?: readonly string[] | "all";
  /** Default: `quickstartStyles`. A concept is left out of a style that does not draw it. */
  readonly styles?: readonly EmojiStyle[];
  /** Default: `quickstartColours`. */
  readonly colours?: readonly ColourName[];
  /** Whether held-out pairs stay out of the samples. Default: true. */
  readonly holdOut?: boolean;
  /** Smallest size of a picture relative to its own, drawn uniformly up to 1. Default 0.85; 1 for no jitter. */
  readonly minimumScale?: number;
  /** Largest shift in pixels along each axis; a picture is never cut. Default 3. */
  readonly maximumShift?: number;
  /** Share of captions without a style. Default 0.1. */
  readonly styleDropRate?: number;
  /** Share of captions of white backgrounds that do not mention them. Default 0.5. */
  readonly whiteDropRate?: number;
  /** Share of captions with one related word after the concept; a few take more than 20 tokens then. Default 0. */
  readonly keywordRate?: number;
  /** A pack that was read before. Default: the recipe's own. */
  readonly pack?: EmojiPack;
}

/** One picture on one background: what a caption describes. */
export interface EmojiCombination {
  readonly concept: EmojiConcept;
  readonly style: EmojiStyle;
  readonly colour: ColourName;
}

/** Where a picture stands in the image. */
export interface Placement {
  /** Size relative to the picture's own. */
  readonly scale: number;
  /** Shift of the centre to the right and downwards, in pixels. */
  readonly shiftX: number;
  readonly shiftY: number;
}

export interface EmojiSample extends EmojiCombination {
  /** [3, size, size], red, green, blue, in [-1, 1]. */
  readonly image: Float32Array<ArrayBuffer>;
  readonly caption: string;
}

export interface EmojiBatch {
  /** [count, 3, size, size], in [-1, 1]. */
  readonly images: HostTensor;
  readonly captions: readonly string[];
  readonly samples: readonly EmojiSample[];
}

/** Decoded: premultiplied sRGB bytes, and the box that holds every visible pixel. */
interface Picture {
  /** [size, size, 4]: red, green, blue (times alpha), alpha. */
  readonly pixels: Uint8Array;
  /** Distances of the visible box from the image's centre in pixels. */
  readonly extent: { readonly left: number; readonly top: number; readonly right: number; readonly bottom: number };
}

const centred: Placement = { scale: 1, shiftX: 0, shiftY: 0 };

/** Chosen: a quarter of the concepts lose one of the five styles, so every style keeps 95% of its pictures. */
const heldOutStyleRate = 0.25;
/** Chosen: one background in ten per concept; white is never held out. */
const heldOutColourRate = 0.1;

/** Whether (concept, style) is kept for evaluation: at most one style of a concept, the same for every subset. */
export function isHeldOutStyle(conceptName: string, style: EmojiStyle): boolean {
  const stream = random("held-out style", conceptName);
  return fraction(stream.at("whether")) < heldOutStyleRate && choose(stream.at("which"), emojiStyles) === style;
}

/** Whether (concept, colour) is kept for evaluation. */
export function isHeldOutColour(conceptName: string, colour: ColourName): boolean {
  return colour !== "white" && fraction(random("held-out colour", conceptName, colour)) < heldOutColourRate;
}

/**
 * Reads the pack and decodes the pictures that the options need (about 5,000 in all, 1 ms each).
 *
 * @throws InvalidArgumentError for an unknown concept; MalformedFileError, SdxsError `MISSING_FILE` from the pack;
 *   MissingPackageError without sharp.
 */
export async function loadEmojiDataset(options: EmojiDatasetOptions = {}): Promise<EmojiDataset> {
  const pack = options.pack ?? (await readOwnPack());
  const concepts = chooseConcepts(pack.manifest.concepts, options.concepts ?? quickstartConcepts);
  const combinations: EmojiCombination[] = [];
  const pictures = new Map<string, Picture>();
  const decodings: (() => Promise<void>)[] = [];
  for (const concept of concepts) {
    for (const style of options.styles ?? quickstartStyles) {
      const range = concept.pictures[style];
      if (range === undefined) continue;
      const [offset, length] = range;
      const file = pack.pictureFile.subarray(offset, offset + length);
      decodings.push(async () => {
        pictures.set(
          pictureKey(concept.name, style),
          await decodePicture(file, pack.manifest.pictureSize, `${concept.name}, ${style}`),
        );
      });
      for (const colour of options.colours ?? quickstartColours) {
        // Black lines on black show nothing.
        if (!(style === "high-contrast" && colour === "black")) combinations.push({ concept, style, colour });
      }
    }
  }
  await runConcurrently(decodings, availableParallelism());
  return new EmojiDataset(pack.manifest.pictureSize, combinations, pictures, options);
}

/** Composes samples from decoded pictures; made by `loadEmojiDataset`. */
export class EmojiDataset {
  /** Height and width of the images in pixels. */
  readonly imageSize: number;
  /** What `sample` draws from. */
  readonly trainingCombinations: readonly EmojiCombination[];
  /** Combinations whose (concept, style) or (concept, colour) no sample shows; empty without `holdOut`. */
  readonly heldOutCombinations: readonly EmojiCombination[];
  /** Every word that a caption of this data set may contain. */
  readonly words: ReadonlySet<string>;

  readonly #pictures: ReadonlyMap<string, Picture>;
  readonly #minimumScale: number;
  readonly #maximumShift: number;
  readonly #styleDropRate: number;
  readonly #whiteDropRate: number;
  readonly #keywordRate: number;

  /** @internal */
  constructor(
    imageSize: number,
    combinations: readonly EmojiCombination[],
    pictures: ReadonlyMap<string, Picture>,
    options: EmojiDatasetOptions,
  ) {
    this.imageSize = imageSize;
    this.#pictures = pictures;
    this.#minimumScale = options.minimumScale ?? 0.85;
    this.#maximumShift = options.maximumShift ?? 3;
    this.#styleDropRate = options.styleDropRate ?? 0.1;
    this.#whiteDropRate = options.whiteDropRate ?? 0.5;
    this.#keywordRate = options.keywordRate ?? 0;
    if (!(this.#minimumScale > 0 && this.#minimumScale <= 1 && this.#maximumShift >= 0)) {
      throw new InvalidArgumentError(
        `EmojiDataset: minimumScale must lie in (0, 1] and maximumShift be at least 0, got ${this.#minimumScale} and ` +
          `${this.#maximumShift}.`,
      );
    }
    const isHeldOut = ({ concept, style, colour }: EmojiCombination) =>
      (options.holdOut ?? true) && (isHeldOutStyle(concept.name, style) || isHeldOutColour(concept.name, colour));
    this.trainingCombinations = combinations.filter((combination) => !isHeldOut(combination));
    this.heldOutCombinations = combinations.filter(isHeldOut);
    if (this.trainingCombinations.length === 0) {
      throw new InvalidArgumentError(
        "EmojiDataset: the chosen concepts, styles and colours leave nothing to train on. Choose more of them.",
      );
    }
    this.words = new Set(
      combinations.flatMap(({ concept, style, colour }) => [
        ...captionWords(composeCaption({ subject: concept.subject, style, colour })),
        ...(this.#keywordRate > 0 ? concept.keywords : []),
      ]),
    );
  }

  /**
   * The training sample of an index: concept, style, background, placement and caption are drawn from
   * (seed, index) alone.
   */
  sample(seed: number, index: number): EmojiSample {
    const stream = random(seed, "emoji sample", index);
    const combination = choose(stream.at("combination"), this.trainingCombinations);
    const { concept, style, colour } = combination;
    const namesStyle = fraction(stream.at("style dropped")) >= this.#styleDropRate;
    const namesColour = colour !== "white" || fraction(stream.at("white dropped")) >= this.#whiteDropRate;
    const namesKeyword = concept.keywords.length > 0 && fraction(stream.at("keyword used")) < this.#keywordRate;
    const caption = composeCaption({
      subject: concept.subject,
      keyword: namesKeyword ? choose(stream.at("keyword"), concept.keywords) : undefined,
      style: namesStyle ? style : undefined,
      colour: namesColour ? colour : undefined,
    });
    return { ...combination, image: this.jittered(combination, stream), caption };
  }

  /**
   * A combination's picture as training shows it: size and place are drawn from the stream.
   *
   * @returns [3, size, size] in [-1, 1].
   */
  jittered(combination: EmojiCombination, stream: Random): Float32Array<ArrayBuffer> {
    const { extent } = this.#picture(combination.concept.name, combination.style);
    const scale = this.#minimumScale + (1 - this.#minimumScale) * fraction(stream.at("scale"));
    const shift = (before: number, after: number, what: string) => {
      const room = this.imageSize / 2;
      const wanted = Math.round((2 * fraction(stream.at(what)) - 1) * this.#maximumShift);
      return Math.max(Math.min(0, before * scale - room), Math.min(wanted, Math.max(0, room - after * scale)));
    };
    return this.render(combination, {
      scale,
      shiftX: shift(extent.left, extent.right, "shift x"),
      shiftY: shift(extent.top, extent.bottom, "shift y"),
    });
  }

  /** The samples `firstIndex` to `firstIndex + count - 1`, stacked. */
  batch(seed: number, firstIndex: number, count: number): EmojiBatch {
    const samples = Array.from({ length: count }, (_, position) => this.sample(seed, firstIndex + position));
    const images = new Float32Array(count * 3 * this.imageSize * this.imageSize);
    samples.forEach(({ image }, position) => images.set(image, position * image.length));
    return {
      images: new HostTensor([count, 3, this.imageSize, this.imageSize], images),
      captions: samples.map(({ caption }) => caption),
      samples,
    };
  }

  /**
   * Lays a picture over its background: bilinear resampling, blended as sRGB values.
   *
   * @returns [3, size, size] in [-1, 1].
   */
  render({ concept, style, colour }: EmojiCombination, placement: Placement = centred): Float32Array<ArrayBuffer> {
    const size = this.imageSize;
    const { pixels } = this.#picture(concept.name, style);
    const background = backgroundColours[colour];
    const image = new Float32Array(3 * size * size);
    const middle = size / 2;
    for (let y = 0; y < size; y++) {
      // Pixel centres lie at half a pixel.
      const sourceY = (y + 0.5 - middle - placement.shiftY) / placement.scale + middle - 0.5;
      const top = Math.floor(sourceY);
      const weightY = sourceY - top;
      for (let x = 0; x < size; x++) {
        const sourceX = (x + 0.5 - middle - placement.shiftX) / placement.scale + middle - 0.5;
        const left = Math.floor(sourceX);
        const weightX = sourceX - left;
        let red = 0;
        let green = 0;
        let blue = 0;
        let alpha = 0;
        for (let corner = 0; corner < 4; corner++) {
          const cornerX = left + (corner & 1);
          const cornerY = top + (corner >> 1);
          const weight = (corner & 1 ? weightX : 1 - weightX) * (corner >> 1 ? weightY : 1 - weightY);
          if (weight === 0 || cornerX < 0 || cornerY < 0 || cornerX >= size || cornerY >= size) continue;
          const position = 4 * (cornerY * size + cornerX);
          red += weight * (pixels[position] ?? 0);
          green += weight * (pixels[position + 1] ?? 0);
          blue += weight * (pixels[position + 2] ?? 0);
          alpha += weight * (pixels[position + 3] ?? 0);
        }
        const uncovered = 1 - alpha / 255;
        const target = y * size + x;
        image[target] = (red + uncovered * background[0]) / 127.5 - 1;
        image[target + size * size] = (green + uncovered * background[1]) / 127.5 - 1;
        image[target + 2 * size * size] = (blue + uncovered * background[2]) / 127.5 - 1;
      }
    }
    return image;
  }

  #picture(conceptName: string, style: EmojiStyle): Picture {
    const picture = this.#pictures.get(pictureKey(conceptName, style));
    if (picture === undefined) {
      throw new InvalidArgumentError(
        `EmojiDataset: "${conceptName}" in style "${style}" was not loaded. Name both in the data set's options.`,
      );
    }
    return picture;
  }
}

/** A number in [0, 1). */
function fraction(stream: Random): number {
  return stream.uniform([]).item();
}

/** One of the items, which are not none. */
function choose<Item>(stream: Random, items: readonly Item[]): Item {
  const item = items[stream.integers([], 0, items.length).item()];
  if (item === undefined) throw new InvalidArgumentError("choose: expected at least one item, got none.");
  return item;
}

function pictureKey(conceptName: string, style: EmojiStyle): string {
  return `${conceptName}/${style}`;
}

function chooseConcepts(
  available: readonly EmojiConcept[],
  wanted: readonly string[] | "all",
): readonly EmojiConcept[] {
  if (wanted === "all") return available;
  const byName = new Map(available.map((concept) => [concept.name, concept]));
  return wanted.map((name) => {
    const concept = byName.get(name);
    if (concept === undefined) {
      throw new InvalidArgumentError(
        `loadEmojiDataset: the pack has no concept "${name}". Its ${available.length} names stand in emoji-64.json.`,
      );
    }
    return concept;
  });
}

/** Decodes a WebP file into premultiplied bytes. */
async function decodePicture(file: Uint8Array, size: number, description: string): Promise<Picture> {
  const sharp = await importSharp();
  let pixels: Uint8Array;
  try {
    pixels = await sharp(file).ensureAlpha().raw().toBuffer();
  } catch (cause) {
    throw new MalformedFileError(`loadEmojiDataset: the picture "${description}" cannot be decoded.`, { cause });
  }
  if (pixels.length !== 4 * size * size) {
    throw new MalformedFileError(
      `loadEmojiDataset: the picture "${description}" must have ${size}x${size} pixels, it decodes to ${pixels.length} bytes.`,
    );
  }
  let [left, top, right, bottom] = [size, size, 0, 0];
  for (let position = 0; position < pixels.length; position += 4) {
    const alpha = pixels[position + 3] ?? 0;
    for (let channel = position; channel < position + 3; channel++) {
      pixels[channel] = Math.round(((pixels[channel] ?? 0) * alpha) / 255);
    }
    if (alpha === 0) continue;
    const x = (position / 4) % size;
    const y = Math.floor(position / 4 / size);
    left = Math.min(left, x);
    right = Math.max(right, x + 1);
    top = Math.min(top, y);
    bottom = Math.max(bottom, y + 1);
  }
  const middle = size / 2;
  return {
    pixels,
    extent: { left: middle - left, top: middle - top, right: right - middle, bottom: bottom - middle },
  };
}

async function importSharp(): Promise<(typeof import("sharp"))["default"]> {
  try {
    return (await import("sharp")).default;
  } catch (cause) {
    throw new MissingPackageError("sharp", "Decoding the emoji pack", { cause });
  }
}

/** Runs tasks, at most `limit` at a time. */
async function runConcurrently(tasks: readonly (() => Promise<void>)[], limit: number): Promise<void> {
  const queue = tasks.values();
  await Promise.all(
    Array.from({ length: limit }, async () => {
      for (const task of queue) await task();
    }),
  );
}
