import { availableParallelism } from "node:os";
import sharp from "sharp";
import { MalformedFileError } from "@sdxs/tensor";
import { emojiStyles, type EmojiStyle } from "../../emoji-styles.js";
import type { EmojiPack } from "../../emoji-pack.js";
import { colourName, colourNames, hsvOf, vividHues, type ColourName } from "./colours.js";

/** A picture of the pack, decoded and reduced by halves. */
export interface Sprite {
  readonly name: string;
  readonly style: EmojiStyle;
  /** Premultiplied sRGB bytes [side, side, 4], the pack's size first, each next one half as wide. */
  readonly levels: readonly SpriteLevel[];
  /** Half the width and height of the visible part's box, and its centre, as shares of the side; the centre from the middle. */
  readonly box: { readonly x: number; readonly y: number; readonly halfWidth: number; readonly halfHeight: number };
  /** What most of it is coloured, if it can be said. */
  readonly colour?: ColourName;
  /** The hue in degrees that may be exchanged for any vivid one: most of the picture's has it, bright and saturated. */
  readonly vividHue?: number;
}

export interface SpriteLevel {
  readonly side: number;
  readonly pixels: Uint8ClampedArray;
}

/** Sprites by concept and style. */
export type Sprites = ReadonlyMap<string, ReadonlyMap<EmojiStyle, Sprite>>;

/** Shares of the visible pixels that a colour's name stands for. Chosen by eye; grays are told by more than half. */
const namedShare = 0.55;
const namedGrayShare = 0.68;

/**
 * Decodes the pack's pictures: about 4 ms each.
 *
 * @throws MalformedFileError for a picture that is none.
 */
export async function decodeSprites({ manifest, pictureFile }: EmojiPack): Promise<Sprites> {
  const sprites = new Map<string, Map<EmojiStyle, Sprite>>();
  const jobs = manifest.concepts.flatMap(({ name, pictures }) => {
    const styles = new Map<EmojiStyle, Sprite>();
    sprites.set(name, styles);
    return emojiStyles.flatMap((style) => {
      const range = pictures[style];
      if (range === undefined) return [];
      const file = pictureFile.subarray(range[0], range[0] + range[1]);
      return [async () => void styles.set(style, await decodeSprite(file, manifest.pictureSize, name, style))];
    });
  });
  const queue = jobs.values();
  const worker = async (): Promise<void> => {
    for (const job of queue) await job();
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
  return sprites;
}

async function decodeSprite(file: Uint8Array, side: number, name: string, style: EmojiStyle): Promise<Sprite> {
  let pixels: Uint8Array;
  try {
    pixels = await sharp(file).ensureAlpha().raw().toBuffer();
  } catch (cause) {
    throw new MalformedFileError(`decodeSprites: the picture "${name}, ${style}" cannot be decoded.`, { cause });
  }
  if (pixels.length !== 4 * side * side) {
    throw new MalformedFileError(
      `decodeSprites: the picture "${name}, ${style}" must have ${side}x${side} pixels, it decodes to ${pixels.length} bytes.`,
    );
  }
  return spriteOf(pixels, side, name, style);
}

/** A sprite of straight (not premultiplied) bytes [side, side, 4]. */
export function spriteOf(straight: Uint8Array, side: number, name: string, style: EmojiStyle): Sprite {
  const levels: SpriteLevel[] = [{ side, pixels: premultiplied(straight) }];
  while (levels.at(-1)!.side > 16) levels.push(halved(levels.at(-1)!));
  return { name, style, levels, box: visibleBox(straight, side), ...dominantColour(straight) };
}

function premultiplied(straight: Uint8Array): Uint8ClampedArray {
  const pixels = new Uint8ClampedArray(straight.length);
  for (let at = 0; at < straight.length; at += 4) {
    const alpha = straight[at + 3]!;
    for (let channel = at; channel < at + 3; channel++) pixels[channel] = (straight[channel]! * alpha) / 255;
    pixels[at + 3] = alpha;
  }
  return pixels;
}

/** Means of 2 x 2 pixels. */
function halved({ side, pixels }: SpriteLevel): SpriteLevel {
  const half = side / 2;
  const means = new Uint8ClampedArray(4 * half * half);
  for (let y = 0; y < half; y++) {
    for (let x = 0; x < half; x++) {
      for (let channel = 0; channel < 4; channel++) {
        const at = 4 * (2 * y * side + 2 * x) + channel;
        const sum = pixels[at]! + pixels[at + 4]! + pixels[at + 4 * side]! + pixels[at + 4 * side + 4]!;
        means[4 * (y * half + x) + channel] = sum / 4;
      }
    }
  }
  return { side: half, pixels: means };
}

function visibleBox(straight: Uint8Array, side: number): Sprite["box"] {
  let [left, top, right, bottom] = [side, side, 0, 0];
  for (let at = 0; at < straight.length; at += 4) {
    if (straight[at + 3]! < 16) continue;
    const x = (at / 4) % side;
    const y = Math.floor(at / 4 / side);
    [left, right] = [Math.min(left, x), Math.max(right, x + 1)];
    [top, bottom] = [Math.min(top, y), Math.max(bottom, y + 1)];
  }
  return {
    x: (left + right) / 2 / side - 0.5,
    y: (top + bottom) / 2 / side - 0.5,
    halfWidth: (right - left) / 2 / side,
    halfHeight: (bottom - top) / 2 / side,
  };
}

/** Each pixel has a vote for its colour's name, weighted by its alpha. */
function dominantColour(straight: Uint8Array): Pick<Sprite, "colour" | "vividHue"> {
  const votes = Object.fromEntries(colourNames.map((name) => [name, 0])) as Record<ColourName, number>;
  const sums = { x: 0, y: 0, saturation: 0, value: 0 };
  const names: (ColourName | undefined)[] = [];
  let total = 0;
  for (let at = 0; at < straight.length; at += 4) {
    const name = colourName(straight[at]!, straight[at + 1]!, straight[at + 2]!);
    names.push(name);
    total += straight[at + 3]!;
    if (name !== undefined) votes[name] += straight[at + 3]!;
  }
  const colour = colourNames.reduce((best, name) => (votes[name] > votes[best] ? name : best));
  const isGray = colour === "white" || colour === "gray" || colour === "black";
  if (votes[colour] < (isGray ? namedGrayShare : namedShare) * total) return {};
  if (!(colour in vividHues)) return { colour };
  for (const [pixel, name] of names.entries()) {
    if (name !== colour) continue;
    const weight = straight[4 * pixel + 3]! / votes[colour];
    const [hue, saturation, value] = hsvOf(straight[4 * pixel]!, straight[4 * pixel + 1]!, straight[4 * pixel + 2]!);
    const radians = (hue * Math.PI) / 180;
    sums.x += weight * Math.cos(radians);
    sums.y += weight * Math.sin(radians);
    sums.saturation += weight * saturation;
    sums.value += (weight * value) / 255;
  }
  if (sums.saturation < 0.55 || sums.value < 0.72) return { colour };
  return { colour, vividHue: ((Math.atan2(sums.y, sums.x) * 180) / Math.PI + 360) % 360 };
}
