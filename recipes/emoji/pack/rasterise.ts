import sharp from "sharp";
import type { EmojiStyle } from "../../emoji-styles.js";

/**
 * Side of the artists' canvas, as a share of the picture's. The Fluent canvases carry a margin of 2/32; Noto's reach
 * the edge and are drawn smaller, so that all styles keep about 3 of 64 pixels.
 */
const canvasShare: Readonly<Record<EmojiStyle, number>> = {
  noto: 58 / 64,
  "noto-v1": 58 / 64,
  "fluent-flat": 1,
  "fluent-3d": 1,
  "high-contrast": 1,
};

/** Drawn at 4 times the size and averaged: librsvg computes the filters of the 3D style per pixel, with jagged edges. */
const oversampling = 4;

/**
 * Draws an SVG document (100 units wide) and compresses it as a WebP file with alpha, `pictureSize` pixels a side. Colours
 * under full transparency are black.
 *
 * Near-lossless with quality 40 (chosen: changes a channel by at most 8 of 255 levels and saves a quarter of the
 * bytes of lossless; lossy WebP halves the resolution of colour, which shows at this size).
 */
export async function rasterise(svg: string, style: EmojiStyle, pictureSize: number): Promise<Buffer> {
  const size = Math.round(canvasShare[style] * pictureSize);
  // librsvg draws an SVG unit as density / 72 pixels.
  const drawn = await sharp(Buffer.from(svg), { density: (72 * size * oversampling) / 100 })
    .ensureAlpha()
    .raw()
    .toBuffer({ resolveWithObject: true });
  if (drawn.info.width !== size * oversampling || drawn.info.height !== size * oversampling) {
    throw new Error(`rasterise: expected ${size * oversampling} pixels a side, got ${drawn.info.width}.`);
  }
  const pixels = new Uint8Array(4 * pictureSize * pictureSize);
  const margin = (pictureSize - size) / 2;
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      pixels.set(averageColour(drawn.data, size, x, y), 4 * ((y + margin) * pictureSize + x + margin));
    }
  }
  return sharp(pixels, { raw: { width: pictureSize, height: pictureSize, channels: 4 } })
    .webp({ nearLossless: true, quality: 40, alphaQuality: 100, effort: 6 })
    .toBuffer();
}

/** The mean of the drawn pixels that fall on pixel (x, y), each colour weighted by its alpha. */
function averageColour(drawn: Uint8Array, size: number, x: number, y: number): number[] {
  const sum = [0, 0, 0, 0] as [number, number, number, number];
  for (let row = y * oversampling; row < (y + 1) * oversampling; row++) {
    for (let column = x * oversampling; column < (x + 1) * oversampling; column++) {
      const position = 4 * (row * size * oversampling + column);
      const alpha = drawn[position + 3] ?? 0;
      for (const channel of [0, 1, 2] as const) sum[channel] += alpha * (drawn[position + channel] ?? 0);
      sum[3] += alpha;
    }
  }
  const [red, green, blue, alpha] = sum;
  const meanAlpha = Math.round(alpha / oversampling ** 2);
  return meanAlpha === 0
    ? [0, 0, 0, 0]
    : [...[red, green, blue].map((colour) => Math.round(colour / alpha)), meanAlpha];
}
