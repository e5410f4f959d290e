import { readFileSync } from "node:fs";
import { HostTensor, readSafetensors } from "@sdxs/tensor";

const fixtures = new URL("../../fixtures/", import.meta.url);
const { tensors } = readSafetensors(readFileSync(new URL("pictures.safetensors", fixtures)));

/** A file of fixtures/pictures. */
export const pictureFile = (name: string): Uint8Array => readFileSync(new URL(`pictures/${name}`, fixtures));

/** The names of those files whose picture is known. */
export const pictureFiles = Object.keys(tensors).filter((name) => !name.startsWith("resize."));

/** What fixtures/pictures.py says is to be seen in a file, or what Pillow resized: [1, 3, height, width] in [-1, 1]. */
export function seenIn(name: string): HostTensor {
  const { shape, data } = tensors[name]!;
  const greatest = name.startsWith("resize.") ? 255 : 1;
  const values = Float32Array.from(data as Float32Array, (value) => (2 * value) / greatest - 1);
  return new HostTensor([1, ...shape], values);
}

/** The largest difference between two pictures of [-1, 1], in steps of 1 of 255. */
export function largestDifference(a: HostTensor, b: HostTensor): number {
  const differences = Array.from(a.data, (value, i) => Math.abs(value - b.data[i]!));
  return differences.reduce((most, value) => Math.max(most, value), 0) * 127.5;
}

/** What Pillow and diffusers made of "resize.picture". */
export const resizedBy = Object.keys(tensors).flatMap((name) => {
  const [, mode, width, height] = /^resize\.(stretch|crop)\.(\d+)x(\d+)$/.exec(name) ?? [];
  return mode === undefined
    ? []
    : [{ name, mode: mode as "stretch" | "crop", width: Number(width), height: Number(height) }];
});

const kind = (name: string, pattern: RegExp) => ({
  kind: name,
  files: pictureFiles.filter((file) => pattern.test(file)),
});

/** The rows of the table in docs/compatibility.md. */
export const kindsOfFiles = [
  kind("PNG, grey, 1, 2, 4 and 8 bits", /^grey-[1248](-key)?\.png$/),
  kind("PNG, colours, 8 bits", /^rgb-8(-key)?\.png$/),
  kind("PNG, palette, 1, 2, 4 and 8 bits", /^palette-[1248]\.png$/),
  kind("PNG, opacity, 8 bits, and in a palette", /^(grey-alpha-8|rgba-8|palette-[1248]-alpha)\.png$/),
  kind("PNG, 16 bits", /-16(-key)?\.png$/),
  kind("PNG, interlaced, 8 and 16 bits", /-(8|16)(-key|-alpha)?-interlaced\.png$/),
  kind("PNG, interlaced, 1, 2 and 4 bits", /-[124](-key|-alpha)?-interlaced\.png$/),
  kind("PNG, turned by eXIf", /^turned-\d\.png$/),
  kind("JPEG, colours or grey, progressive too", /^photo(-grey|-progressive)?\.jpg$/),
  kind("JPEG, turned by Exif", /^photo-turned-\d\.jpg$/),
  kind("WebP, with or without opacity", /\.webp$/),
];
