/** What a scene shows and where: drawn at random, and put on the canvas. */
import type { EmojiStyle } from "../../emoji-styles.js";
import { InvalidArgumentError } from "@sdxs/tensor";
import { drawBackground, type Background, type BackgroundKind } from "./backgrounds.js";
import { newCanvas, sceneSize, type Canvas } from "./canvas.js";
import { colours, hsvOf, rgbOf, vividHues, type ColourName, type Rgb, type VividName } from "./colours.js";
import type { Draws } from "./draws.js";
import type { Sprite, Sprites } from "./sprites.js";
import { things, type Thing } from "./things.js";

/** One concept in a scene, drawn once or several times in the same style and colour. */
export interface Group {
  /** The pack's name. */
  readonly name: string;
  readonly thing: Thing;
  readonly count: number;
  /** What most of it is coloured, if that can be said. */
  readonly colour?: ColourName;
  /** Whether the scene gave it that colour, instead of the artist. */
  readonly isRecoloured: boolean;
  readonly placements: readonly Placement[];
}

/** Where one picture stands, in shares of the scene's width. */
export interface Placement {
  /** Its canvas' centre. */
  readonly x: number;
  readonly y: number;
  /** Its canvas' side. */
  readonly side: number;
  /** Clockwise, in radians. */
  readonly turn: number;
  readonly isMirrored: boolean;
}

export interface Scene {
  readonly style: EmojiStyle;
  readonly groups: readonly Group[];
  readonly background: Background;
}

/** What may be demanded of a scene instead of being drawn at random: for sheets and tests. */
export interface SceneWishes {
  readonly names?: readonly string[];
  readonly counts?: readonly number[];
  readonly style?: EmojiStyle;
  readonly background?: BackgroundKind;
}

const frequentCounts = { "1": 9, "2": 2, "3": 1.5, "1 1": 4, "1 2": 1.5, "1 1 1": 2 } as const;
const styleFrequencies = { noto: 1, "noto-v1": 1, "fluent-flat": 1, "fluent-3d": 1, "high-contrast": 0.7 } as const;

/** Share of pictures with one vivid hue that get another, and of line drawings in a colour. Chosen: enough to learn from. */
const recolouredShare = 0.2;
const colouredInkShare = 0.45;

/** Side of one picture's visible part by their number, in shares of the scene's. Chosen: one fills most of it, three fit. */
const sizes: Readonly<Record<number, readonly [smallest: number, largest: number]>> = {
  1: [0.4, 0.86],
  2: [0.34, 0.54],
  3: [0.28, 0.42],
};

/** Draws a scene at random and puts it on a canvas. */
export function composeScene(
  sprites: Sprites,
  draws: Draws,
  wishes: SceneWishes = {},
): { readonly scene: Scene; readonly canvas: Canvas } {
  const canvas = newCanvas();
  const style = wishes.style ?? draws.pickWeighted<EmojiStyle>(styleFrequencies);
  const counts = wishes.counts ?? draws.pickWeighted(frequentCounts).split(" ").map(Number);
  const background = drawBackground(canvas, draws, wishes.background);
  const total = counts.reduce((sum, count) => sum + count, 0);
  if (!(total in sizes)) {
    throw new InvalidArgumentError(
      `composeScene: a scene shows one to three things, counts [${counts.join(", ")}] are ${total}.`,
    );
  }

  const chosen: Sprite[] = [];
  for (const [position, count] of counts.entries()) {
    const name = wishes.names?.[position];
    chosen.push(
      name === undefined
        ? pickSprite(sprites, draws, { style, count, before: chosen, behind: background.colours })
        : spriteNamed(sprites, name, style),
    );
  }
  const placed: { readonly sprite: Sprite; readonly placement: Placement }[] = [];
  const paints = chosen.map((sprite) => pickPaint(sprite, canvas, background, draws));
  const groups = chosen.map((sprite, position): Group => {
    const placements = Array.from({ length: counts[position]! }, () => {
      const placement = pickPlacement(sprite, total, background, placed, draws);
      placed.push({ sprite, placement });
      return placement;
    });
    const { colour, isRecoloured } = paints[position]!;
    const thing = things.get(sprite.name)!;
    return { name: sprite.name, thing, count: counts[position]!, ...(colour && { colour }), isRecoloured, placements };
  });
  // What stands lower is nearer.
  const order = groups.flatMap(({ placements }, position) => placements.map((placement) => ({ placement, position })));
  order.sort((one, other) => one.placement.y - other.placement.y);
  for (const { placement, position } of order) drawSprite(canvas, chosen[position]!, placement, paints[position]!);
  return { scene: { style, groups, background }, canvas };
}

function spriteNamed(sprites: Sprites, name: string, style: EmojiStyle): Sprite {
  const sprite = sprites.get(name)?.get(style);
  if (sprite === undefined)
    throw new InvalidArgumentError(`composeScene: the pack has no "${name}" in style "${style}".`);
  return sprite;
}

interface SpriteWishes {
  readonly style: EmojiStyle;
  readonly count: number;
  readonly before: readonly Sprite[];
  readonly behind: readonly ColourName[];
}

/** One that no word of those chosen before fits, so that counts in captions are true, and that is seen on what is behind. */
function pickSprite(sprites: Sprites, draws: Draws, { style, count, before, behind }: SpriteWishes): Sprite {
  const words = new Set(before.flatMap(({ name }) => things.get(name)!.nouns.map(({ singular }) => singular)));
  for (;;) {
    const name = draws.pick(names);
    const sprite = sprites.get(name)?.get(style);
    const { nouns } = things.get(name)!;
    if (sprite === undefined || nouns.some(({ singular }) => words.has(singular))) continue;
    if (count > 1 && nouns.some(({ plural }) => plural === undefined)) continue;
    if (style !== "high-contrast" && sprite.colour !== undefined && behind.includes(sprite.colour)) continue;
    return sprite;
  }
}

const names = [...things.keys()];

// ---------------------------------------------------------------------------------------------------------------------
// Colour

/** How a sprite is coloured: as its artist did, with another hue in place of its own, or in one ink. */
interface Paint {
  readonly colour?: ColourName;
  readonly isRecoloured: boolean;
  readonly hues?: { readonly from: number; readonly to: number };
  readonly ink?: Rgb;
}

const vividNames = Object.keys(vividHues) as readonly VividName[];

function pickPaint(sprite: Sprite, canvas: Canvas, { colours: behind }: Background, draws: Draws): Paint {
  if (sprite.style === "high-contrast") return pickInk(canvas, draws);
  const { colour, vividHue } = sprite;
  if (vividHue !== undefined && draws.chance(recolouredShare)) {
    const target = draws.pick(vividNames.filter((name) => name !== colour && !behind.includes(name)));
    return { colour: target, isRecoloured: true, hues: { from: vividHue, to: vividHues[target] } };
  }
  return { ...(colour && { colour }), isRecoloured: false };
}

/** Distance of an ink from the mean of what is behind, in sRGB bytes. Chosen by eye. */
const inkContrast = 150;

/** Black, white or a colour, far enough from what is behind. */
function pickInk(canvas: Canvas, draws: Draws): Paint {
  const area = sceneSize * sceneSize;
  const mean = [0, 1, 2].map(
    (channel) => canvas.subarray(channel * area, (channel + 1) * area).reduce((sum, value) => sum + value) / area,
  );
  const contrast = (ink: Rgb): number => Math.hypot(...ink.map((value, channel) => value - mean[channel]!));
  const plain = contrast(colours.black) > contrast(colours.white) ? "black" : "white";
  const visible = vividNames.filter((name) => contrast(colours[name]) > inkContrast);
  const name = draws.chance(colouredInkShare) && visible.length > 0 ? draws.pick(visible) : plain;
  return { colour: name, isRecoloured: name !== plain, ink: colours[name] };
}

/** Degrees around a sprite's own hue that move along with it. */
const hueReach = 40;

/** A premultiplied colour of the sprite as the paint has it; its alpha is in the same unit. */
function painted(
  rgba: readonly [number, number, number, number],
  { hues, ink }: Paint,
): readonly [number, number, number] {
  const [red, green, blue, alpha] = rgba;
  if (ink) return [(ink[0] * alpha) / 255, (ink[1] * alpha) / 255, (ink[2] * alpha) / 255];
  if (!hues) return [red, green, blue];
  const [hue, saturation, value] = hsvOf(red, green, blue);
  const shift = ((hue - hues.from + 540) % 360) - 180;
  // Shades keep a part of their differences, so that they keep the colour's name.
  return Math.abs(shift) > hueReach
    ? [red, green, blue]
    : rgbOf((hues.to + 0.3 * shift + 360) % 360, saturation, value);
}

// ---------------------------------------------------------------------------------------------------------------------
// Place

/** Half the width and height of the box around a turned sprite's visible part, and its centre from the canvas' centre, both in shares of the canvas' side. */
function turnedBox({ box }: Sprite, turn: number, isMirrored: boolean): Sprite["box"] {
  const [cosine, sine] = [Math.cos(turn), Math.sin(turn)];
  const x = isMirrored ? -box.x : box.x;
  return {
    x: x * cosine - box.y * sine,
    y: x * sine + box.y * cosine,
    halfWidth: Math.abs(box.halfWidth * cosine) + Math.abs(box.halfHeight * sine),
    halfHeight: Math.abs(box.halfWidth * sine) + Math.abs(box.halfHeight * cosine),
  };
}

/** Tries places at random, and takes the first where less than a tenth is covered, or the best of 24. */
function pickPlacement(
  sprite: Sprite,
  total: number,
  { ground }: Background,
  placed: readonly { readonly sprite: Sprite; readonly placement: Placement }[],
  draws: Draws,
): Placement {
  const turn = draws.chance(0.25) ? draws.between(-0.8, 0.8) : draws.between(-0.2, 0.2);
  const isMirrored = draws.chance(0.5);
  const [smallest, largest] = sizes[total]!;
  const box = turnedBox(sprite, turn, isMirrored);
  const span = draws.between(smallest, largest);
  // The longer half of the box is half of the span.
  const side = span / 2 / Math.max(box.halfWidth, box.halfHeight);
  const margin = 0.02;
  const [halfWidth, halfHeight] = [side * box.halfWidth + margin, side * box.halfHeight + margin];
  let best: Placement | undefined;
  let smallestOverlap = Infinity;
  for (let attempt = 0; attempt < 24 && smallestOverlap > 0.1; attempt++) {
    const centreX = draws.between(halfWidth, 1 - halfWidth);
    // On the ground: the lower edge between the ground's edge and the picture's.
    const lowest = 1 - halfHeight;
    const highest =
      ground === undefined ? halfHeight : Math.min(lowest, Math.max(halfHeight, ground + 0.08 - halfHeight));
    const centreY = draws.between(highest, lowest);
    const placement = { x: centreX - side * box.x, y: centreY - side * box.y, side, turn, isMirrored };
    const overlap = Math.max(
      0,
      ...placed.map((other) => overlapShare(sprite, placement, other.sprite, other.placement)),
    );
    if (overlap < smallestOverlap) [best, smallestOverlap] = [placement, overlap];
  }
  return best!;
}

/** The boxes' common area as a share of the smaller one's. */
function overlapShare(sprite: Sprite, placement: Placement, otherSprite: Sprite, other: Placement): number {
  const [a, b] = [edges(sprite, placement), edges(otherSprite, other)];
  const width = Math.min(a.right, b.right) - Math.max(a.left, b.left);
  const height = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
  const areaOf = ({ left, top, right, bottom }: typeof a): number => (right - left) * (bottom - top);
  return (Math.max(0, width) * Math.max(0, height)) / Math.min(areaOf(a), areaOf(b));
}

function edges(sprite: Sprite, { x, y, side, turn, isMirrored }: Placement) {
  const box = turnedBox(sprite, turn, isMirrored);
  const [centreX, centreY] = [x + side * box.x, y + side * box.y];
  const [halfWidth, halfHeight] = [side * box.halfWidth, side * box.halfHeight];
  return {
    left: centreX - halfWidth,
    right: centreX + halfWidth,
    top: centreY - halfHeight,
    bottom: centreY + halfHeight,
  };
}

// ---------------------------------------------------------------------------------------------------------------------
// Drawing

/** Samples along each axis within a pixel. */
const subsamples = 2;

/** Lays a sprite over the canvas: bilinear samples of the level whose pixels are smaller than the scene's, blended as sRGB. */
function drawSprite(canvas: Canvas, sprite: Sprite, { x, y, side, turn, isMirrored }: Placement, paint: Paint): void {
  const area = sceneSize * sceneSize;
  const width = side * sceneSize;
  // Between one and two of the level's pixels lie in one of the scene's, so that subsamples are at most one apart.
  const { side: texels, pixels } = sprite.levels.filter((level) => level.side >= width).at(-1) ?? sprite.levels[0]!;
  const scale = texels / width;
  const [cosine, sine] = [Math.cos(turn) * scale, Math.sin(turn) * scale];
  const reach = (width / 2) * (Math.abs(Math.cos(turn)) + Math.abs(Math.sin(turn))) + 1;
  const limit = (place: number): number => Math.max(0, Math.min(sceneSize, place));
  const [centreX, centreY] = [x * sceneSize, y * sceneSize];
  const sum: [number, number, number, number] = [0, 0, 0, 0];
  for (let row = limit(Math.floor(centreY - reach)); row < limit(Math.ceil(centreY + reach)); row++) {
    for (let column = limit(Math.floor(centreX - reach)); column < limit(Math.ceil(centreX + reach)); column++) {
      sum.fill(0);
      for (let sample = 0; sample < subsamples * subsamples; sample++) {
        const dx = column + ((sample % subsamples) + 0.5) / subsamples - centreX;
        const dy = row + (Math.floor(sample / subsamples) + 0.5) / subsamples - centreY;
        const across = cosine * dx + sine * dy;
        addBilinear(
          sum,
          pixels,
          texels,
          texels / 2 + (isMirrored ? -across : across),
          texels / 2 - sine * dx + cosine * dy,
        );
      }
      if (sum[3] === 0) continue;
      const colour = painted(sum, paint);
      const uncovered = 1 - sum[3] / (255 * subsamples * subsamples);
      const pixel = row * sceneSize + column;
      for (let channel = 0; channel < 3; channel++) {
        const at = channel * area + pixel;
        canvas[at] = canvas[at]! * uncovered + colour[channel]! / (subsamples * subsamples);
      }
    }
  }
}

/** Adds the colour at a place, in pixels from the upper left corner; transparent outside. */
function addBilinear(
  sum: [number, number, number, number],
  pixels: Uint8ClampedArray,
  side: number,
  x: number,
  y: number,
): void {
  const [left, top] = [Math.floor(x - 0.5), Math.floor(y - 0.5)];
  const [shareX, shareY] = [x - 0.5 - left, y - 0.5 - top];
  for (let corner = 0; corner < 4; corner++) {
    const [column, row] = [left + (corner & 1), top + (corner >> 1)];
    if (column < 0 || row < 0 || column >= side || row >= side) continue;
    const weight = (corner & 1 ? shareX : 1 - shareX) * (corner >> 1 ? shareY : 1 - shareY);
    const at = 4 * (row * side + column);
    for (let channel = 0; channel < 4; channel++) sum[channel]! += weight * pixels[at + channel]!;
  }
}
