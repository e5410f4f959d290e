import { MalformedFileError, UnsupportedConfigError, type HostTensor } from "@sdxs/tensor";
import { fromSamples, turned, type RgbaImage } from "./pictures.js";

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
 * A PNG file as a person sees it, as what `GenerateOptions.image` and extractors of conditions take; in browsers and Node,
 * without further packages. Grey becomes three equal channels, opacity is blended with white, and the file's orientation
 * (eXIf) is followed; colour profiles are not. Files of other kinds: `readPicture` of `@sdxs/runtime/node`, and in browsers
 * `fromImageSource`.
 *
 * @returns [1, 3, height, width], red first, in [-1, 1]
 *
 * Throws `MalformedFileError` for what is no PNG file, `UnsupportedConfigError` for an interlaced one of less than 8 bits.
 *
 * @example
 * const image = await fromPng(await readFile("apple.png"));
 * const { images } = await pipeline.generate("a green apple", { image, strength: 0.6 });
 */
export async function fromPng(file: Uint8Array): Promise<HostTensor> {
  const { convertIndexedToRgb, decode } = await import("fast-png");
  const read = () => {
    try {
      const png = decode(file, { checkCrc: true });
      // The colours of a palette have 8 bits, and 4 values where the file tells their opacities.
      return { png, colours: png.palette && convertIndexedToRgb(png) };
    } catch (cause) {
      throw new MalformedFileError(
        `fromPng: this is no PNG file that can be read: ${String(cause)}. Check the file, or convert it to PNG.`,
        { cause },
      );
    }
  };
  const { interlaced, orientation } = chunksOf(file);
  const bits = file[24] ?? 0;
  if (interlaced && bits < 8) {
    throw new UnsupportedConfigError(
      `fromPng: this PNG file is interlaced and has ${bits} bits for each value, which is not supported. Save it without ` +
        `interlacing, or read it by readPicture of @sdxs/runtime/node or, in browsers, by fromImageSource.`,
    );
  }
  const { png, colours } = read();
  const { width, height, depth, channels } = png;
  const samples = colours ?? (depth < 8 ? unpacked(png.data, depth, width, height) : png.data);
  const image = fromSamples(samples, {
    width,
    height,
    channels: colours === undefined ? channels : colours.length / (width * height),
    greatest: colours === undefined ? 2 ** depth - 1 : 255,
    transparent: colours === undefined ? png.transparency : undefined,
  });
  return turned(image, orientation);
}

/** Values of less than 8 bits from rows that begin with a byte. */
function unpacked(rows: ArrayLike<number>, bits: number, width: number, height: number): Uint8Array {
  const bytesPerRow = Math.ceil((width * bits) / 8);
  const perByte = 8 / bits;
  return Uint8Array.from({ length: width * height }, (_, at) => {
    const x = at % width;
    const byte = rows[Math.floor(at / width) * bytesPerRow + Math.floor(x / perByte)]!;
    return (byte >> (8 - bits * ((x % perByte) + 1))) & (2 ** bits - 1);
  });
}

const SIGNATURE_BYTES = 8;

/** What fast-png does not tell of a file. */
function chunksOf(file: Uint8Array): { readonly interlaced: boolean; readonly orientation: number } {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const interlaced = file[28] === 1; // IHDR's last field
  for (let at = SIGNATURE_BYTES; at + 12 <= file.length; at += 12 + view.getUint32(at)) {
    const [length, name] = [view.getUint32(at), String.fromCharCode(...file.subarray(at + 4, at + 8))];
    if (name === "eXIf") return { interlaced, orientation: exifOrientation(file.subarray(at + 8, at + 8 + length)) };
  }
  return { interlaced, orientation: 1 };
}

/** Exif's tag of the orientation, in the first directory of what is laid out as a TIFF file. */
const ORIENTATION = 0x0112;

/** From 1, as it is stored, to 8; 1 for what tells none. CIPA DC-008, 4.6.5.1. */
function exifOrientation(exif: Uint8Array): number {
  const view = new DataView(exif.buffer, exif.byteOffset, exif.byteLength);
  const little = exif[0] === 0x49; // "II", in place of "MM"
  const has = (at: number, bytes: number): boolean => at + bytes <= exif.length;
  const directory = has(0, 8) ? view.getUint32(4, little) : exif.length;
  const entries = has(directory, 2) ? view.getUint16(directory, little) : 0;
  for (let entry = 0; entry < entries; entry++) {
    const at = directory + 2 + 12 * entry;
    if (!has(at, 12)) break;
    if (view.getUint16(at, little) === ORIENTATION) return view.getUint16(at + 8, little);
  }
  return 1;
}
