import { HostTensor, InvalidArgumentError, ShapeError, type Shape } from "@sdxs/tensor";

export interface TilingOptions {
  /** Side of a tile in pixels of the input, or [height, width]. Where the input is smaller, a tile has the input's size. */
  readonly tile: number | readonly [height: number, width: number];
  /**
   * Least overlap of neighbouring tiles in pixels of the input. Default: a quarter of the tile, as in diffusers'
   * `AutoencoderKL`, but at least twice the margin.
   */
  readonly overlap?: number;
  /**
   * Pixels of the input along a tile's inner edges whose results are dropped; the tiles blend between them. Default 0.
   * `tinyDecoderReach` and `tinyEncoderReach` say which margin makes the result the same as without tiles.
   */
  readonly margin?: number;
}

/**
 * Computes a large image in overlapping tiles, which blend linearly where they overlap. Memory of the device is needed for
 * one tile only.
 *
 * `run` takes tiles [batch, channels, min(tile, height), min(tile, width)], all of this one shape, so that one compiled
 * program serves them all. It gives [batch, any channels, ...] larger or smaller by a whole factor: a decoder, an
 * encoder, or anything else that works on pixels. Where it makes tiles smaller by f, sizes along an axis with several tiles must be multiples of f.
 *
 * x: [batch, channels, height, width]; the result is as large as `run` on all of `x` would give. It is exactly that where
 * `run` sees no farther than `margin`; a model with a group norm sees everything, and its tiles differ a little.
 *
 * Throws `InvalidArgumentError` for options that do not fit one another, `ShapeError` for tensors that do not fit them.
 *
 * @example
 * const decodeTile = async (latents: HostTensor) => {
 *   const { image } = await decoder.run({}, { latents }); // compiled for latents [1, 4, 64, 64]
 *   const pixels = await backend.download(image);
 *   backend.dispose(image);
 *   return pixels;
 * };
 * const image = await computeInTiles(decodeTile, latents, { tile: 64 }); // latents [1, 4, 256, 256]: 2048 x 2048 pixels
 */
export async function computeInTiles(
  run: (tile: HostTensor) => Promise<HostTensor>,
  x: HostTensor,
  options: TilingOptions,
): Promise<HostTensor> {
  const [batch = 0, channels = 0, height = 0, width = 0] = x.shape;
  if (x.shape.length !== 4 || x.data.length === 0 || x.dtype !== "float32") {
    throw new ShapeError(
      `computeInTiles: the input must be float32 [batch, channels, height, width], got ${x.dtype} [${x.shape.join(", ")}].`,
    );
  }
  const [tileHeight, tileWidth] = typeof options.tile === "number" ? [options.tile, options.tile] : options.tile;
  const tileShape = [batch, channels, Math.min(tileHeight, height), Math.min(tileWidth, width)] as const;
  checkOptions(options, tileHeight, tileWidth);

  const first = await run(crop(x, [0, 0], tileShape));
  const outShape = first.shape;
  if (outShape.length !== 4 || outShape[0] !== batch) {
    throw new ShapeError(
      `computeInTiles: a tile [${tileShape.join(", ")}] must give [${batch}, channels, height, width], got [${outShape.join(", ")}].`,
    );
  }
  const rows = planAxis("height", height, tileHeight, outShape[2] ?? 0, options);
  const columns = planAxis("width", width, tileWidth, outShape[3] ?? 0, options);
  const result = HostTensor.filled([batch, outShape[1] ?? 0, rows.size, columns.size], 0);
  for (const [i, row] of rows.spans.entries()) {
    for (const [j, column] of columns.spans.entries()) {
      const tile = i === 0 && j === 0 ? first : await run(crop(x, [row.from, column.from], tileShape));
      if (tile.shape.join() !== outShape.join()) {
        throw new ShapeError(
          `computeInTiles: every tile must give [${outShape.join(", ")}] as the first did, got [${tile.shape.join(", ")}].`,
        );
      }
      addWeighted(result, tile, row, column);
    }
  }
  return result;
}

/** The range of a tile along one axis. */
interface Span {
  /** Its first pixel of the input. */
  readonly from: number;
  /** Its first pixel of the result. */
  readonly to: number;
  /** Its share of each of its pixels of the result. Those of all tiles add up to 1. */
  readonly weights: Float64Array;
}

function checkOptions({ overlap, margin = 0, tile }: TilingOptions, tileHeight: number, tileWidth: number): void {
  const whole = [tileHeight, tileWidth, margin, overlap ?? 0].every((size) => Number.isInteger(size) && size >= 0);
  const shortest = Math.min(tileHeight, tileWidth);
  if (whole && shortest > Math.max(overlap ?? 0, 2 * margin) && 2 * margin <= (overlap ?? Infinity)) return;
  throw new InvalidArgumentError(
    `computeInTiles: tile, overlap and margin must be whole numbers with 2 * margin <= overlap < tile, got tile ` +
      `${JSON.stringify(tile)}, overlap ${overlap}, margin ${margin}.`,
  );
}

/** Spreads tiles evenly over an axis of `size` pixels, of which a tile's result has `outTile`. */
function planAxis(
  axis: string,
  size: number,
  fullTile: number,
  outTile: number,
  { overlap: givenOverlap, margin = 0 }: TilingOptions,
): { readonly size: number; readonly spans: readonly Span[] } {
  const tile = Math.min(fullTile, size);
  if (tile === size) return { size: outTile, spans: [{ from: 0, to: 0, weights: new Float64Array(outTile).fill(1) }] };
  const unit = Math.max(tile / outTile, 1); // tiles begin at multiples of this
  if (!Number.isInteger(unit) || !Number.isInteger(Math.max(outTile / tile, 1))) {
    throw new ShapeError(
      `computeInTiles: a tile must become larger or smaller by a whole factor, its ${axis} went from ${tile} to ${outTile}.`,
    );
  }
  const overlap = givenOverlap ?? Math.max(Math.floor(tile / 4 / unit) * unit, 2 * margin);
  if ([size, overlap, margin].some((length) => length % unit !== 0)) {
    throw new InvalidArgumentError(
      `computeInTiles: tiles become smaller by ${unit}, so the image's ${axis}, overlap and margin must be multiples of ` +
        `${unit}, got ${size}, ${overlap} and ${margin}. Pad the image or choose others.`,
    );
  }
  const scale = outTile / tile;
  const outMargin = margin * scale;
  const gaps = Math.ceil((size - tile) / (tile - overlap));
  const starts = Array.from({ length: gaps + 1 }, (_, i) => Math.floor((i * (size - tile)) / gaps / unit) * unit);

  // A later tile lies over the earlier ones and fades in over the overlap; what it leaves is theirs.
  const left = new Float64Array(size * scale).fill(1);
  const spans: Span[] = [];
  for (const [i, from] of [...starts.entries()].reverse()) {
    const to = from * scale;
    const previous = starts[i - 1];
    const fadeFrom = to + outMargin;
    const fadeTo = previous === undefined ? fadeFrom : (previous + tile) * scale - outMargin;
    const weights = Float64Array.from({ length: outTile }, (_, offset) => {
      const opacity = previous === undefined ? 1 : (to + offset - fadeFrom + 0.5) / (fadeTo - fadeFrom);
      const bounded = Math.min(Math.max(opacity, 0), 1);
      const weight = bounded * (left[to + offset] ?? 0);
      left[to + offset] = (left[to + offset] ?? 0) - weight;
      return weight;
    });
    spans.unshift({ from, to, weights });
  }
  return { size: size * scale, spans };
}

function crop(x: HostTensor, [top, left]: readonly [number, number], shape: Shape): HostTensor {
  const [, , height = 0, width = 0] = x.shape;
  const [batch = 0, channels = 0, rows = 0, columns = 0] = shape;
  const data = new Float32Array(batch * channels * rows * columns);
  for (let plane = 0; plane < batch * channels; plane++) {
    for (let row = 0; row < rows; row++) {
      const begin = (plane * height + top + row) * width + left;
      data.set(x.data.subarray(begin, begin + columns), (plane * rows + row) * columns);
    }
  }
  return new HostTensor(shape, data);
}

/** Adds a tile times the weights of its pixels to its place in `result`. */
function addWeighted(result: HostTensor, tile: HostTensor, row: Span, column: Span): void {
  const [batch = 0, channels = 0, height = 0, width = 0] = result.shape;
  const rows = row.weights.length;
  const columns = column.weights.length;
  for (let plane = 0; plane < batch * channels; plane++) {
    for (let y = 0; y < rows; y++) {
      const rowWeight = row.weights[y] ?? 0;
      const from = (plane * rows + y) * columns;
      const to = (plane * height + row.to + y) * width + column.to;
      for (let x = 0; x < columns; x++) {
        const weight = rowWeight * (column.weights[x] ?? 0);
        // Not by adding 0: what a tile holds outside its share may be anything, even infinite.
        if (weight > 0) result.data[to + x] = (result.data[to + x] ?? 0) + weight * (tile.data[from + x] ?? 0);
      }
    }
  }
}
