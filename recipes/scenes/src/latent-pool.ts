import { rm } from "node:fs/promises";
import { join } from "node:path";
import { HostTensor, InvalidArgumentError, type Random } from "@sdxs/tensor";
import { takeRows } from "@sdxs/training";
import { cachedRows } from "@sdxs/training/node";

/** Latents of scenes, and token ids of several captions of each. */
export interface CaptionedLatents {
  /** [scenes, channels, height, width], scaled. */
  readonly latents: HostTensor;
  /** [scenes, captions, tokens] */
  readonly ids: HostTensor;
}

export interface LatentPoolOptions {
  /** A folder of its own: a subfolder for each piece that is in use. */
  readonly folder: string;
  /** What the rows depend on, as the autoencoder's weights and the seed. */
  readonly key: string;
  /** Scenes that come and go together. */
  readonly pieceSize: number;
  /** Pieces in use at the first step, and at most. */
  readonly firstPieces: number;
  readonly pieces: number;
  /** Steps between a new piece and the next. */
  readonly stepsPerPiece: number;
  /** Rows [first, first + count) of the endless data set. */
  readonly compute: (first: number, count: number) => Promise<CaptionedLatents>;
}

export interface LatentPool {
  /** The rows that a step draws from the pool by its stream. */
  batch(step: number, count: number, stream: Random): Promise<CaptionedLatents>;
}

/**
 * A window of an endless data set that moves along with the steps: after every so many comes a new piece, and the oldest
 * goes. So encoding a scene is paid for by several uses, and no scene stays. What a step gets depends on the step alone.
 *
 * @example
 * const pool = latentPool({ folder, key, pieceSize: 256, firstPieces: 8, pieces: 32, stepsPerPiece: 100, compute });
 * const { latents, ids } = await pool.batch(step, 16, random(seed, "teacher", step));
 */
export function latentPool(options: LatentPoolOptions): LatentPool {
  const { folder, key, pieceSize, firstPieces, pieces, stepsPerPiece, compute } = options;
  if (firstPieces < 1 || pieces < firstPieces) {
    throw new InvalidArgumentError(
      `latentPool: expected 1 <= firstPieces <= pieces, got ${firstPieces} and ${pieces}.`,
    );
  }
  const held = new Map<number, CaptionedLatents>();
  const piece = async (index: number): Promise<CaptionedLatents> => {
    const known = held.get(index);
    if (known) return known;
    const read = await cachedRows({
      folder: join(folder, String(index)),
      key,
      count: pieceSize,
      pieceSize,
      dtype: "F16",
      compute: async (first, count) => ({ ...(await compute(index * pieceSize + first, count)) }),
    });
    held.set(index, read);
    return read;
  };
  return {
    async batch(step, count, stream) {
      const last = firstPieces - 1 + Math.floor(step / stepsPerPiece);
      const first = Math.max(0, last - pieces + 1);
      for (const index of held.keys()) {
        if (index >= first) continue;
        held.delete(index);
        await rm(join(folder, String(index)), { recursive: true, force: true });
      }
      const rows = stream.at("rows").integers([count], first * pieceSize, (last + 1) * pieceSize).data;
      const variants = stream.at("captions").uniform([count]).data;
      const drawn: CaptionedLatents[] = [];
      for (const [position, row] of rows.entries()) {
        const { latents, ids } = await piece(Math.floor(row / pieceSize));
        const [, captions = 1, tokens = 0] = ids.shape;
        const caption = Math.floor(variants[position]! * captions);
        const ofScene = takeRows(ids, [row % pieceSize]).data.subarray(caption * tokens, (caption + 1) * tokens);
        drawn.push({ latents: takeRows(latents, [row % pieceSize]), ids: new HostTensor([1, tokens], ofScene) });
      }
      return { latents: stacked(drawn.map(({ latents }) => latents)), ids: stacked(drawn.map(({ ids }) => ids)) };
    },
  };
}

/** One after the other along the first axis. */
function stacked(rows: readonly HostTensor[]): HostTensor {
  const [first] = rows;
  const data = first?.data instanceof Int32Array ? new Int32Array(sizeOf(rows)) : new Float32Array(sizeOf(rows));
  let offset = 0;
  for (const row of rows) {
    data.set(row.data, offset);
    offset += row.data.length;
  }
  return new HostTensor([rows.length, ...(first?.shape.slice(1) ?? [])], data);
}

const sizeOf = (rows: readonly HostTensor[]): number => rows.reduce((sum, { data }) => sum + data.length, 0);
