import type { RgbaImage } from "./pictures.js";

/** Every PNG file begins so: https://www.w3.org/TR/png/, section 5.2. */
const PNG_SIGNATURE = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);
const PNG_COLOURS = 2; // red, green, blue
/** Bytes are stored as differences from the pixel to the left, which compress better. */
const PNG_SUB_FILTER = 1;

/**
 * A picture as a PNG file of 8 bits, without its opacity; in browsers and Node.
 *
 * @example
 * await writeFile("apple.png", await toPng(toRgba(images)[0]));
 */
export async function toPng({ width, height, data }: RgbaImage): Promise<Uint8Array<ArrayBuffer>> {
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header.set([8, PNG_COLOURS], 8);
  const rows = new Uint8Array(height * (1 + 3 * width));
  let at = 0;
  for (let y = 0; y < height; y++) {
    rows[at++] = PNG_SUB_FILTER;
    for (let x = 0; x < width; x++) {
      const pixel = 4 * (y * width + x);
      for (let channel = pixel; channel < pixel + 3; channel++) {
        rows[at++] = data[channel]! - (x === 0 ? 0 : data[channel - 4]!); // modulo 256
      }
    }
  }
  const zlib = new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate"));
  const pixels = new Uint8Array(await new Response(zlib).arrayBuffer());
  const chunks = [pngChunk("IHDR", header), pngChunk("IDAT", pixels), pngChunk("IEND", new Uint8Array())];
  return new Uint8Array(await new Blob([PNG_SIGNATURE, ...chunks]).arrayBuffer());
}

/** Length, type, content, checksum. */
function pngChunk(type: string, content: Uint8Array): Uint8Array<ArrayBuffer> {
  const chunk = new Uint8Array(12 + content.length);
  const view = new DataView(chunk.buffer);
  view.setUint32(0, content.length);
  chunk.set(new TextEncoder().encode(type), 4);
  chunk.set(content, 8);
  view.setUint32(8 + content.length, crc32(chunk.subarray(4, 8 + content.length)));
  return chunk;
}

/** The checksum of PNG and zip: https://www.w3.org/TR/png/, annex D. */
function crc32(bytes: Uint8Array): number {
  let crc = -1;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}
