import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { InvalidArgumentError, ShapeError, type HostTensor } from "@sdxs/tensor";
import type { CurveLabel } from "@sdxs/training";
import opentype, { type Font } from "opentype.js";
import sharp from "sharp";

export interface ContactSheetOptions {
  /** Pictures side by side. Default 5. */
  readonly columns?: number;
  /** Each pixel of a picture becomes a square of so many. Default 2. */
  readonly magnification?: number;
}

/** Pixels. Chosen: readable, and a caption of ten words fits into three lines under a picture of 128 pixels. */
const fontSize = 11;
const lineHeight = 14;
const padding = 8;

/**
 * Lays pictures out in rows, each above its label, as a PNG file. The letters are drawn as outlines of a font from
 * npm, so a machine without fonts gives the same sheet.
 *
 * @param images float32 [count, 3, height, width] in [-1, 1]; values beyond are clipped.
 * @param labels one for each picture; long ones are broken into lines.
 *
 * @example
 * await writeFile("samples.png", await contactSheet(images, prompts, { columns: 5 }));
 */
export async function contactSheet(
  images: HostTensor,
  labels: readonly string[],
  { columns = 5, magnification = 2 }: ContactSheetOptions = {},
): Promise<Buffer> {
  const [count, channels, height, width] = images.shape;
  if (images.shape.length !== 4 || channels !== 3 || !count || !height || !width) {
    throw new ShapeError(`contactSheet: images must be [count, 3, height, width], got [${images.shape.join(", ")}].`);
  }
  if (labels.length !== count) {
    throw new InvalidArgumentError(
      `contactSheet: expected ${count} labels, one for each picture, got ${labels.length}.`,
    );
  }
  const font = await loadFont();
  const pictureWidth = width * magnification;
  const pictureHeight = height * magnification;
  const lines = labels.map((label) => breakLines(label, font, pictureWidth));
  const labelHeight = Math.max(...lines.map(({ length }) => length)) * lineHeight;
  const cellWidth = pictureWidth + padding;
  const cellHeight = pictureHeight + labelHeight + padding;
  const sheetWidth = Math.min(columns, count) * cellWidth + padding;
  const sheetHeight = Math.ceil(count / columns) * cellHeight + padding;
  const leftOf = (cell: number) => padding + (cell % columns) * cellWidth;
  const topOf = (cell: number) => padding + Math.floor(cell / columns) * cellHeight;

  const outlines = lines.flatMap((cellLines, cell) =>
    cellLines.map((line, row) => {
      const baseline = topOf(cell) + pictureHeight + (row + 1) * lineHeight - 2;
      return `<path d="${font.getPath(line, leftOf(cell), baseline, fontSize).toPathData(2)}"/>`;
    }),
  );
  const text = `<svg xmlns="http://www.w3.org/2000/svg" width="${sheetWidth}" height="${sheetHeight}">${outlines.join("")}</svg>`;
  const pictures = Array.from({ length: count }, async (_, cell) => ({
    input: await sharp(interleavedBytes(images, cell), { raw: { width, height, channels: 3 } })
      .resize(pictureWidth, pictureHeight, { kernel: "nearest" })
      .png()
      .toBuffer(),
    left: leftOf(cell),
    top: topOf(cell),
  }));
  return sharp({ create: { width: sheetWidth, height: sheetHeight, channels: 3, background: "#ececec" } })
    .composite([...(await Promise.all(pictures)), { input: Buffer.from(text), left: 0, top: 0 }])
    .removeAlpha()
    .png()
    .toBuffer();
}

/**
 * Draws a text as SVG outlines, so that it looks the same on a machine without fonts.
 *
 * @returns a function of the text, the pixel position of its baseline, and its size and colour.
 */
export async function textOutliner(): Promise<(label: CurveLabel) => string> {
  const font = await loadFont();
  return ({ text, x, y, anchor, size, color }) => {
    const shift = { start: 0, middle: 0.5, end: 1 }[anchor] * font.getAdvanceWidth(text, size);
    return `<path fill="${color}" d="${font.getPath(text, x - shift, y, size).toPathData(2)}"/>`;
  };
}

async function loadFont(): Promise<Font> {
  const require = createRequire(import.meta.url);
  const bytes = await readFile(require.resolve("@fontsource/dejavu-sans/files/dejavu-sans-latin-400-normal.woff"));
  return opentype.parse(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
}

/** Breaks a text at spaces into lines of at most `width` pixels; a longer word stands alone and overhangs. */
function breakLines(text: string, font: Font, width: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(" ")) {
    const line = lines.at(-1);
    const extended = `${line ?? ""} ${word}`;
    if (line !== undefined && font.getAdvanceWidth(extended, fontSize) <= width) lines[lines.length - 1] = extended;
    else lines.push(word);
  }
  return lines;
}

/** One picture of the batch as bytes: red, green, blue, red, ... */
function interleavedBytes({ data, shape }: HostTensor, picture: number): Uint8Array {
  const [, , height = 0, width = 0] = shape;
  const area = height * width;
  const bytes = new Uint8Array(3 * area);
  for (let pixel = 0; pixel < area; pixel++) {
    for (let channel = 0; channel < 3; channel++) {
      const value = data[(picture * 3 + channel) * area + pixel] ?? 0;
      bytes[3 * pixel + channel] = Math.round(127.5 * (1 + Math.min(1, Math.max(-1, value))));
    }
  }
  return bytes;
}
