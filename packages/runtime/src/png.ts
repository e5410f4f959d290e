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
