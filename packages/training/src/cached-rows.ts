import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import {
  HostTensor,
  SdxsError,
  ShapeError,
  decodeFloat16,
  encodeFloat16,
  mapTensors,
  type TensorMap,
  type Signal,
} from "@sdxs/tensor";
import { readSafetensorsFile, writeSafetensorsFile } from "@sdxs/tensor/node";
import { checksum } from "./checksum.js";
import { fileFailure } from "./file-failure.js";
import { checkCount } from "./learner.js";
import { emptyTensor } from "./rows.js";

export interface CachedRowsOptions<Name extends string> {
  /** A separate folder for the pieces; made if it is missing. */
  readonly folder: string;
  /** Identifies what the rows depend on, as a model's name and a seed: pieces of another key are ignored. */
  readonly key: string;
  /** Rows in all. */
  readonly count: number;
  /** Rows that are computed and stored together; the last piece may have fewer. */
  readonly pieceSize: number;
  /** Rows [first, first + count) of each tensor, [count, ...]. The same for the same arguments, each time. */
  readonly compute: (first: number, count: number) => Promise<Readonly<Record<Name, HostTensor>>>;
  /** How float32 is stored. "F16" halves the files; the rows that are given are rounded to it. Default "F32". */
  readonly dtype?: "F32" | "F16";
  /** Stops before the next piece is computed. */
  readonly signal?: Signal;
  /** Called after each piece. */
  readonly onProgress?: (done: number, count: number) => void;
}

/**
 * Rows that are computed once and kept in files: latents of images, embeddings of prompts, a teacher's samples.
 *
 * Pieces are safetensors files, "rows-0-32.safetensors", written as a whole or not at all, so a process that is killed
 * continues with the next piece; a damaged one is computed again. The rows are the same, bit for bit, whether they were
 * computed or read. One process writes a folder.
 *
 * @returns all rows by name, [count, ...], in memory. `takeRows` picks a batch.
 * @throws SdxsError with code ABORTED once `signal` is aborted, FILE_FAILURE where the folder cannot be written;
 * ShapeError where `compute` gives another number of rows or, from piece to piece, rows of another shape.
 *
 * @example
 * const { latents } = await cachedRows({
 *   folder: "run/latents", key: "vae of step 5000, seed 1", count: 12_000, pieceSize: 500, dtype: "F16",
 *   compute: async (first, count) => ({ latents: await encode(images(first, count)) }),
 * });
 * const batch = (step) => ({ latents: takeRows(latents, random(seed, "rows", step).integers([16], 0, 12_000).data) });
 */
export async function cachedRows<Name extends string>(
  options: CachedRowsOptions<Name>,
): Promise<Readonly<Record<Name, HostTensor>>> {
  const { folder, key, count, pieceSize, compute, dtype = "F32", signal, onProgress } = options;
  for (const [name, value] of Object.entries({ count, pieceSize })) checkCount("cachedRows", name, value);
  await mkdir(folder, { recursive: true }).catch((cause: unknown) => fileFailure("cachedRows", folder, cause));
  let rows: Record<string, HostTensor> | undefined;
  for (let first = 0; first < count; first += pieceSize) {
    const size = Math.min(pieceSize, count - first);
    const path = join(folder, `rows-${first}-${first + size}.safetensors`);
    const label = `${key}, ${dtype}`;
    let piece = await readPiece(path, label);
    if (!piece) {
      if (signal?.aborted) throw aborted(first, count, signal);
      piece = mapTensors(await compute(first, size), (tensor) => (dtype === "F16" ? roundedToFloat16(tensor) : tensor));
      checkRows(piece, rows, first, size);
      await writeSafetensorsFile(path, piece, { dtype, metadata: { checksum: checksum(label, piece) } });
    }
    rows ??= mapTensors(piece, ({ dtype, shape }) => emptyTensor([count, ...shape.slice(1)], dtype));
    for (const [name, { data }] of Object.entries(piece)) rows[name]?.data.set(data, (first * data.length) / size);
    onProgress?.(first + size, count);
  }
  return rows as Record<Name, HostTensor>;
}

/** A stored piece; undefined where there is none, or one that is damaged or of another label. */
async function readPiece(path: string, label: string): Promise<TensorMap<HostTensor> | undefined> {
  try {
    const { tensors, metadata } = await readSafetensorsFile(path);
    return metadata["checksum"] === checksum(label, tensors) ? tensors : undefined;
  } catch (error) {
    if (error instanceof SdxsError && ["MISSING_FILE", "MALFORMED_FILE"].includes(error.code)) return undefined;
    throw error;
  }
}

function roundedToFloat16(tensor: HostTensor): HostTensor {
  const { shape, data } = tensor;
  return data instanceof Float32Array ? new HostTensor(shape, decodeFloat16(encodeFloat16(data))) : tensor;
}

/** `rows` are those so far, of any number. */
function checkRows(
  piece: TensorMap<HostTensor>,
  rows: TensorMap<HostTensor> | undefined,
  first: number,
  size: number,
): void {
  for (const [name, { shape }] of Object.entries(piece)) {
    const expected = [size, ...(rows?.[name]?.shape ?? shape).slice(1)];
    if (shape.join() === expected.join()) continue;
    throw new ShapeError(
      `cachedRows: compute(${first}, ${size}) must give "${name}" of shape [${expected.join(", ")}], it gave [${shape.join(", ")}].`,
    );
  }
}

function aborted(first: number, count: number, signal: Signal): SdxsError {
  return new SdxsError(
    "ABORTED",
    `cachedRows was aborted after ${first} of ${count} rows. They are saved: call it again to go on from here.`,
    { cause: signal.reason },
  );
}
