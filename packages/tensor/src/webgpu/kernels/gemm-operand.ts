import { sizeOf } from "../../core/host-tensor.js";
import type { Node } from "../ir/node.js";
import type { Shader } from "./shader.js";
import { merged, placeOf, type Layout } from "./view.js";

/** Names of values that the elements of one row, or of one place along the inner axis, share. */
export type Names = Readonly<Record<string, string>>;

export interface Element {
  readonly place: string;
  /** What must hold, or the element is zero. */
  readonly valid?: string;
}

/**
 * One operand of a product, as the kernel sees it: rows (those of the left operand, columns of the right one) by an inner axis
 * that the product sums over. What it writes are expressions of WGSL.
 */
export interface Matrix {
  readonly source: Node;
  /** Whether neighbours along the inner axis are neighbours in memory, rather than those along the rows. */
  readonly alongInner: boolean;
  /** Elements that can be read at once, along the axis of neighbours; eight where they are float16. */
  readonly width: 1 | 4 | 8;
  /** What the elements of row `row` of sample `batch` share. */
  row(shader: Shader, batch: string, row: string): Names;
  /** What they share besides while the inner index lies in the tile from `begin` on. */
  readonly tile?: (shader: Shader, row: Names, begin: string) => Names;
  inner(shader: Shader, inner: string): Names;
  at(row: Names, inner: Names): Element;
}

/** A matrix whose elements lie at whole multiples of the indices. */
export function stridedMatrix(source: Node, batch: Layout, rows: Layout, inner: Layout): Matrix {
  const isNeighbours = (layout: Layout): boolean => merged(layout).strides.at(-1) === 1;
  const alongInner = isNeighbours(inner);
  const [near, far] = alongInner ? [inner, rows] : [rows, inner];
  const begins = [
    ...[merged(near).sizes.at(-1) ?? 1, sizeOf(source.shape), near.offset, far.offset, batch.offset],
    ...[...merged(near).strides.slice(0, -1), ...merged(far).strides, ...merged(batch).strides],
  ];
  return {
    source,
    alongInner,
    width: isNeighbours(near) ? widthOf(begins) : 1,
    row: (shader, sample, row) => ({ base: shader.let(`${placeOf(batch, sample)} + ${placeOf(rows, row)}`) }),
    inner: (shader, index) => ({ place: shader.let(placeOf(inner, index)) }),
    at: ({ base }, { place }) => ({ place: `${base} + ${place}` }),
  };
}

/** Elements that can be read at once where vectors begin at multiples of these numbers. */
export const widthOf = (begins: readonly number[]): 1 | 4 | 8 =>
  ([8, 4] as const).find((width) => begins.every((begin) => begin % width === 0)) ?? 1;

/** A batch of products of two matrices: rows, columns and inner axis are GEMM's M, N and K. */
export interface Product {
  readonly batch: number;
  readonly rows: number;
  readonly columns: number;
  readonly inner: number;
  readonly left: Matrix;
  readonly right: Matrix;
}
