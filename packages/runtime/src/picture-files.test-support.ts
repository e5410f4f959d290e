import { readFileSync } from "node:fs";
import { HostTensor, readSafetensors } from "@sdxs/tensor";

const fixtures = new URL("../fixtures/", import.meta.url);
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
