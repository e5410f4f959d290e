import type { FusedGemm } from "../compile.js";
import { MOST_GROUPS, type Kernel } from "../kernels/kernel.js";
import {
  estimatedTiling,
  tileOf,
  tilingsFor,
  type ChooseTiling,
  type GemmProblem,
  type Tile,
  type Tiling,
} from "../kernels/tile-choice.js";
import type { TuningStore } from "./tuning-store.js";

/** What one program may take to measure its tilings. */
const BUDGET_MILLISECONDS = 1000;

/** Sizes of fewer multiplications, in all or as a share of the program's, are not measured: chosen. */
const LEAST_MULTIPLICATIONS = 2 ** 24;
const LEAST_SHARE = 0.01;

/** Splits that are measured of each tile besides none, the best by estimate: chosen. */
const SPLITS_EACH = 2;

/** Part of the store's key: to be raised when tiles or the kernels' loops change. */
const VERSION = 1;

/** Times kernels on a device. */
export interface KernelTimer {
  /** Compiles the kernels. */
  prepare(kernels: readonly Kernel[]): Promise<unknown>;
  /** What one run of the kernels takes, in microseconds. */
  time(kernels: readonly Kernel[]): Promise<number>;
}

interface AutotunerOptions {
  /** The adapter's name. */
  readonly name: string;
  readonly store: TuningStore | undefined;
  /** Milliseconds from any beginning. */
  readonly now: () => number;
}

/**
 * Chooses tilings by time: the large GEMMs of a program are run with each tiling that may be the fastest, and the winners are kept
 * in a table by size, in the store under the adapter's name. Small GEMMs, and those that the budget leaves no time for, are divided
 * by estimate.
 */
export class Autotuner {
  private readonly key: string;
  private readonly table: Promise<Map<string, Tiling>>;
  /** One program is measured at a time. */
  private last: Promise<unknown> = Promise.resolve();

  constructor(private readonly options: AutotunerOptions) {
    this.key = `tilings ${VERSION} ${options.name}`;
    this.table = this.load();
  }

  tune(gemms: readonly FusedGemm[], timer: KernelTimer): Promise<ChooseTiling> {
    const tuned = this.last.then(() => this.measure(gemms, timer));
    this.last = tuned.catch(() => undefined);
    return tuned;
  }

  private async measure(gemms: readonly FusedGemm[], timer: KernelTimer): Promise<ChooseTiling> {
    const table = await this.table;
    const deadline = this.options.now() + BUDGET_MILLISECONDS;
    let isNew = false;
    for (const gemm of largest(gemms)) {
      const { key } = gemm.problem;
      if (table.has(key)) continue;
      const fastest = await this.fastest(gemm, timer, deadline);
      if (!fastest) break;
      table.set(key, fastest);
      isNew = true;
    }
    if (isNew) await this.save(table);
    return (problem) => table.get(problem.key) ?? estimatedTiling(problem);
  }

  /** Undefined where there is no time to measure all candidates. */
  private async fastest(
    { problem, kernels }: FusedGemm,
    timer: KernelTimer,
    deadline: number,
  ): Promise<Tiling | undefined> {
    const { now } = this.options;
    const candidates = candidatesOf(problem)
      .map((tiling) => ({ tiling, kernels: kernels(tiling) }))
      .filter((candidate) => candidate.kernels.every(({ groups }) => groups.every((count) => count <= MOST_GROUPS)));
    if (now() >= deadline) return undefined;
    await Promise.all(candidates.map((candidate) => timer.prepare(candidate.kernels)));
    let best: { readonly tiling: Tiling; readonly microseconds: number } | undefined;
    for (const candidate of candidates) {
      if (now() >= deadline) return undefined;
      const microseconds = await timer.time(candidate.kernels);
      if (!best || microseconds < best.microseconds) best = { tiling: candidate.tiling, microseconds };
    }
    return best?.tiling;
  }

  private async load(): Promise<Map<string, Tiling>> {
    const text = await this.options.store?.get(this.key).catch(() => undefined);
    return new Map(text === undefined ? [] : parseTable(text));
  }

  private async save(table: ReadonlyMap<string, Tiling>): Promise<void> {
    const entries = [...table].map(([key, { tile, splitK }]) => [key, [tile.name, splitK]] as const);
    await this.options.store?.set(this.key, JSON.stringify(Object.fromEntries(entries))).catch(() => undefined);
  }
}

function candidatesOf(problem: GemmProblem): readonly Tiling[] {
  const splits = new Map<Tile, number>();
  return tilingsFor(problem).filter(({ tile, splitK }) => {
    if (splitK === 1) return true;
    const better = splits.get(tile) ?? 0;
    splits.set(tile, better + 1);
    return better < SPLITS_EACH;
  });
}

/** One of each size, those first that take most multiplications. */
function largest(gemms: readonly FusedGemm[]): readonly FusedGemm[] {
  const work = new Map<string, { readonly gemm: FusedGemm; multiplications: number }>();
  let total = 0;
  for (const gemm of gemms) {
    const { key, batch, rows, columns, inner } = gemm.problem;
    const known = work.get(key) ?? { gemm, multiplications: 0 };
    known.multiplications += batch * rows * columns * inner;
    total += batch * rows * columns * inner;
    work.set(key, known);
  }
  return [...work.values()]
    .filter(({ multiplications }) => multiplications >= Math.max(LEAST_MULTIPLICATIONS, LEAST_SHARE * total))
    .sort((a, b) => b.multiplications - a.multiplications)
    .map(({ gemm }) => gemm);
}

/** What of a stored text is a tiling: it may be another version's. */
function parseTable(text: string): [key: string, tiling: Tiling][] {
  let stored: unknown;
  try {
    stored = JSON.parse(text);
  } catch {
    return [];
  }
  return Object.entries(stored ?? {}).flatMap(([key, value]): [string, Tiling][] => {
    const [name, splitK] = Array.isArray(value) ? (value as readonly unknown[]) : [];
    const tile = typeof name === "string" ? tileOf(name) : undefined;
    return tile && Number.isInteger(splitK) && (splitK as number) > 0
      ? [[key, { tile, splitK: splitK as number }]]
      : [];
  });
}
