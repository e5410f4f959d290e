import sharp from "sharp";
import type { EmojiStyle } from "../src/captions.js";

export const pictureSize = 64;

/**
 * Side of the artists' canvas in the picture, in pixels. The Fluent canvases carry a margin of 2/32; Noto's reach
 * the edge and are drawn smaller, so that all styles keep about 3 pixels.
 */
const canvasSize: Readonly<Record<EmojiStyle, number>> = {
  noto: 58,
  "noto-v1": 58,
  "fluent-flat": pictureSize,
  "fluent-3d": pictureSize,
  "high-contrast": pictureSize,
};

/** Drawn at 4 times the size, then reduced: chosen, finer drawing changes no pixel by more than a few levels. */
const oversampling = 4;

/**
 * Draws an SVG document and compresses it as a WebP file with alpha. Colours under full transparency are black.
 *
 * Near-lossless with quality 40 (chosen: changes a channel by at most 4 of 255 levels and saves a quarter of
 * the bytes of lossless; lossy WebP halves the resolution of colour, which shows at this size).
 */
export async function rasterise(svg: string, style: EmojiStyle): Promise<Buffer> {
  const size = canvasSize[style];
  // The documents are 100 units wide; librsvg draws them at density / 72 pixels a unit (its resolution of SVG units).
  const drawn = await sharp(Buffer.from(svg), { density: (72 * size * oversampling) / 100 })
    .resize(size, size, { kernel: "lanczos3" })
    .ensureAlpha()
    .png()
    .toBuffer();
  const margin = (pictureSize - size) / 2;
  const pixels = await sharp(drawn)
    .extend({ top: margin, bottom: margin, left: margin, right: margin, background: { r: 0, g: 0, b: 0, alpha: 0 } })
    .raw()
    .toBuffer();
  for (let pixel = 0; pixel < pixels.length; pixel += 4) {
    if (pixels[pixel + 3] === 0) pixels.fill(0, pixel, pixel + 3);
  }
  return sharp(pixels, { raw: { width: pictureSize, height: pictureSize, channels: 4 } })
    .webp({ nearLossless: true, quality: 40, alphaQuality: 100, effort: 6 })
    .toBuffer();
}
