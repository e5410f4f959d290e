import { times } from "./kernel.js";

/** A workgroup's part of the result, and how much of the inner axis it holds in shared memory at once. */
export interface Tile {
  readonly name: string;
  readonly rows: number;
  readonly columns: number;
  readonly inner: number;
  /** Parts of the tile, each of which one thread computes in registers, or with subgroup matrices one subgroup. */
  readonly grid: readonly [rows: number, columns: number];
  /** Tiles in shared memory: with two (double buffering), one is filled while the other is multiplied. */
  readonly buffers: 1 | 2;
}

/** A tile for subgroup matrices, and what 64 of its inner axis take on an H100, in microseconds. */
interface SubgroupMatrixTile extends Tile {
  /** Where a multiprocessor has one workgroup. */
  readonly alone: number;
  /** By workgroup, where a multiprocessor has several. */
  readonly shared: number;
}

// The fastest of 13 tiles on an H100, for GEMMs of many tiles and of few.
export const LARGE: SubgroupMatrixTile = {
  name: "large",
  rows: 128,
  columns: 64,
  inner: 32,
  grid: [2, 2],
  buffers: 1,
  alone: 1.3,
  shared: 0.82,
};
export const SMALL: SubgroupMatrixTile = {
  name: "small",
  rows: 64,
  columns: 64,
  inner: 64,
  grid: [2, 2],
  buffers: 2,
  alone: 0.77,
  shared: 0.58,
};
/** For GEMMs of few columns, as convolutions to an image's colours are. */
export const NARROW: SubgroupMatrixTile = {
  name: "narrow",
  rows: 128,
  columns: 16,
  inner: 64,
  grid: [4, 1],
  buffers: 1,
  alone: 0.8,
  shared: 0.5,
};
export const REGISTERS: Tile = { name: "registers", rows: 64, columns: 64, inner: 16, grid: [16, 16], buffers: 1 };
/** Half the loads from shared memory by product, on twice the registers: where it is measured to be faster. */
export const LARGE_REGISTERS: Tile = {
  name: "large registers",
  rows: 128,
  columns: 64,
  inner: 16,
  grid: [16, 16],
  buffers: 1,
};

const TILES = [LARGE, SMALL, NARROW, REGISTERS, LARGE_REGISTERS];

/** The tile of this name. */
export const tileOf = (name: string): Tile | undefined => TILES.find((tile) => tile.name === name);

/** Multiprocessors of an H100. WebGPU does not tell a device's. */
const MULTIPROCESSORS = 132;

/** What split-K costs on an H100: another kernel, and partial sums that are written and read. */
const SPLIT_MICROSECONDS = 3;
const SPLIT_BYTES_PER_MICROSECOND = 1e6;
const MOST_SPLIT_K = 12;

/** Workgroups that occupy a large GPU, with register tiles: chosen. */
const BUSY = 512;

/** Elements of the inner axis that are worth a workgroup of their own there: chosen. */
const LEAST_INNER = 1024;

/** A GEMM, or a convolution as one: what the time of its kernel depends on. */
export interface GemmProblem {
  /** Equal where all of that is: operation, sizes, and how operands lie in memory. */
  readonly key: string;
  readonly batch: number;
  readonly rows: number;
  readonly columns: number;
  readonly inner: number;
  readonly useSubgroupMatrices: boolean;
}

/** How a GEMM is divided: into tiles, and along the inner axis into `splitK` partial sums. */
export interface Tiling {
  readonly tile: Tile;
  readonly splitK: number;
}

export type ChooseTiling = (problem: GemmProblem) => Tiling;

/** The tiling that takes least time by estimate. */
export const estimatedTiling: ChooseTiling = (problem) => tilingsFor(problem)[0]!;

/** The tilings that a problem may take, that of least time by estimate first. */
export function tilingsFor(problem: GemmProblem): readonly Tiling[] {
  return problem.useSubgroupMatrices ? subgroupMatrixTilings(problem) : registerTilings(problem);
}

const groupsOf = ({ batch, rows, columns }: GemmProblem, tile: Tile): number =>
  batch * Math.ceil(rows / tile.rows) * Math.ceil(columns / tile.columns);

function subgroupMatrixTilings(problem: GemmProblem): readonly Tiling[] {
  const { batch, rows, columns, inner } = problem;
  const tiles = columns <= NARROW.columns ? [NARROW] : [SMALL, LARGE];
  const most = Math.max(1, Math.min(MOST_SPLIT_K, Math.floor(inner / SMALL.inner)));
  const tilings = tiles.flatMap((tile) =>
    times(most, (i) => {
      const splitK = i + 1;
      const each = Math.ceil((groupsOf(problem, tile) * splitK) / MULTIPROCESSORS);
      const multiplied = Math.ceil(inner / splitK / 64) * Math.max(tile.alone, tile.shared * each);
      const bytes = 8 * splitK * batch * rows * columns;
      const added = splitK > 1 ? SPLIT_MICROSECONDS + bytes / SPLIT_BYTES_PER_MICROSECOND : 0;
      return { tile, splitK, microseconds: multiplied + added };
    }),
  );
  return tilings.sort((a, b) => a.microseconds - b.microseconds);
}

function registerTilings(problem: GemmProblem): readonly Tiling[] {
  const most = Math.floor(problem.inner / LEAST_INNER);
  const estimate = Math.max(1, Math.min(most, Math.floor(BUSY / groupsOf(problem, REGISTERS))));
  const splits = [estimate, 2 * estimate, Math.floor(estimate / 2)].filter(
    (splitK, i) => i === 0 || (splitK >= 1 && splitK <= Math.max(1, problem.inner / REGISTERS.inner)),
  );
  return [REGISTERS, LARGE_REGISTERS].flatMap((tile) => splits.map((splitK) => ({ tile, splitK })));
}
