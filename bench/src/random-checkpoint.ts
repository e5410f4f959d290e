import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { sizeOf, type TensorSpec } from "@sdxs/tensor";
import { replaceFile } from "@sdxs/tensor/node";

/** Random bits that all tensors take their values from, from a position of their own: chosen, 1 MiB. */
const POOL_ELEMENTS = 2 ** 19;

/**
 * A safetensors file of float16 weights in pieces, made as they are asked for, so that a checkpoint of any size can be
 * written at the disk's speed. Values are those of a newly initialised network in size, about 1 / sqrt(fan in), so that
 * activations stay finite; the same on every run. The pieces share memory: use each before asking for the next.
 */
export function* randomHalfCheckpoint(specs: Readonly<Record<string, TensorSpec>>): Generator<Uint8Array> {
  let position = 0;
  const entries = Object.entries(specs).map(([name, { shape }]) => {
    const begin = position;
    position += 2 * sizeOf(shape);
    return [name, { dtype: "F16", shape, data_offsets: [begin, position] }] as const;
  });
  const json = JSON.stringify({ __metadata__: { format: "pt" }, ...Object.fromEntries(entries) });
  const header = new TextEncoder().encode(json);
  yield new Uint8Array(BigUint64Array.of(BigInt(header.length)).buffer);
  yield header;

  const pool = randomBits(POOL_ELEMENTS);
  const piece = new Uint16Array(POOL_ELEMENTS);
  for (const [index, [, { shape }]] of entries.entries()) {
    const [, ...fanIn] = shape;
    // binary16: sign, 5 bits of exponent with a bias of 15, 10 bits of fraction.
    const exponent = (15 - Math.ceil(Math.log2(sizeOf(fanIn)) / 2) - 1) << 10;
    for (let start = 0; start < sizeOf(shape); start += POOL_ELEMENTS) {
      const count = Math.min(POOL_ELEMENTS, sizeOf(shape) - start);
      const shift = (index * 7919 + start / POOL_ELEMENTS) % POOL_ELEMENTS; // another beginning for each piece
      for (let i = 0; i < count; i++) piece[i] = (pool[(i + shift) % POOL_ELEMENTS]! & 0x83ff) | exponent;
      yield new Uint8Array(piece.buffer, 0, 2 * count);
    }
  }
}

/** Writes config.json and random float16 weights, in a file of the name that the model's library gives it. */
export async function writeRandomModel(
  folder: string,
  configJson: string,
  weightsFile: "diffusion_pytorch_model.safetensors" | "model.safetensors",
  specs: Readonly<Record<string, TensorSpec>>,
): Promise<void> {
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "config.json"), configJson);
  await replaceFile(join(folder, weightsFile), randomHalfCheckpoint(specs));
}

/** Marsaglia's xorshift generator ("Xorshift RNGs", 2003) with the shifts 13, 17, 5. */
function randomBits(count: number): Uint16Array {
  let state = 1;
  return Uint16Array.from({ length: count }, () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 8;
  });
}
