import { HostTensor, MalformedFileError } from "@sdxs/tensor";
import type { RgbaImage } from "./pictures.js";

/**
 * A picture as a PNG file of 8 bits, without its opacity; in browsers and Node.
 *
 * @example
 * await writeFile("apple.png", await toPng(toRgba(images)[0]));
 */
export async function toPng({ width, height, data }: RgbaImage): Promise<Uint8Array<ArrayBuffer>> {
  // Loaded with the first picture; it has ES modules alone, which CommonJS can import so.
  const { encode } = await import("fast-png");
  const rgb = data.filter((_, index) => index % 4 !== 3);
  return new Uint8Array(encode({ width, height, data: rgb, channels: 3 }));
}

/**
 * A PNG file of 8 or 16 bits, or with a palette, as what `GenerateOptions.image` and extractors of conditions take; in browsers
 * and Node. Grey becomes three equal channels; opacity is left out, not blended.
 *
 * @returns [1, 3, height, width], red first, in [-1, 1]
 *
 * Throws `MalformedFileError` for what is no such file.
 *
 * @example
 * const image = await fromPng(await readFile("apple.png"));
 * const { images } = await pipeline.generate("a green apple", { image, strength: 0.6 });
 */
export async function fromPng(file: Uint8Array): Promise<HostTensor> {
  const { convertIndexedToRgb, decode } = await import("fast-png");
  const read = (): ReturnType<typeof decode> => {
    try {
      return decode(file);
    } catch (cause) {
      throw new MalformedFileError(`fromPng: this is no PNG file that can be read: ${String(cause)}.`, { cause });
    }
  };
  const png = read();
  const { width, height, depth, palette } = png;
  if (palette === undefined && depth < 8) {
    throw new MalformedFileError(`fromPng: expected 8 or 16 bits for each value or a palette, got ${depth} bits.`);
  }
  const pixels = palette === undefined ? png.data : convertIndexedToRgb(png);
  const area = width * height;
  const channels = pixels.length / area; // a palette may have opacities
  const greatest = palette === undefined ? 2 ** depth - 1 : 255;
  const image = HostTensor.filled([1, 3, height, width], 0);
  for (let channel = 0; channel < 3; channel++) {
    const from = channels < 3 ? 0 : channel;
    for (let at = 0; at < area; at++) {
      image.data[channel * area + at] = (2 * pixels[channels * at + from]!) / greatest - 1;
    }
  }
  return image;
}
