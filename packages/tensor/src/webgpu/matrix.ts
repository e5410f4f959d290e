import type { Node } from "../graph/node.js";
import { sizeOf, type Shape } from "../core/host-tensor.js";
import type { Shader } from "./shader.js";
import { contiguous, merged, placeOf, type Layout, type View } from "./view.js";

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
const widthOf = (begins: readonly number[]): 1 | 4 | 8 =>
  ([8, 4] as const).find((width) => begins.every((begin) => begin % width === 0)) ?? 1;

/** How an image is walked over by a kernel of weights. */
export interface Windows {
  readonly kernel: readonly [height: number, width: number];
  readonly stride: number;
  readonly top: number;
  readonly left: number;
  /** How many times the image's pixels are repeated along either axis before. */
  readonly enlarged: number;
  /** Of the places that the windows belong to. */
  readonly places: readonly [height: number, width: number];
}

interface Image {
  readonly source: Node;
  readonly strides: readonly [sample: number, channel: number, y: number, x: number];
  readonly offset: number;
  readonly channels: number;
  readonly height: number;
  readonly width: number;
}

/** @param shape [samples, channels, height, width], with channels last [samples, height, width, channels] */
export function imageOf({ source, layout }: View, shape: Shape, channelsLast = false): Image {
  const axes = channelsLast ? [0, 3, 1, 2] : [0, 1, 2, 3];
  const [, channels = 1, height = 1, width = 1] = axes.map((axis) => shape[axis]!);
  const [sample = 0, channel = 0, y = 0, x = 0] = axes.map((axis) => layout.strides[axis]!);
  return { source, strides: [sample, channel, y, x], offset: layout.offset, channels, height, width };
}

/**
 * The windows of a convolution: rows are places of the result, the inner axis runs over the kernel's places and the channels at
 * each. For the gradient by the image, rows are places of the image and the windows' places those of the gradient. Rows may run
 * over several samples, one after the other.
 *
 * @param tileSize of the inner axis: where channels are a multiple of it, all of a tile lies at one place of the kernel
 */
export function windowsMatrix(
  image: Image,
  windows: Windows,
  op: "conv2d" | "conv2dInputGrad",
  tileSize: number,
): Matrix {
  const { source, strides, offset, channels } = image;
  const [bySample, byChannel, byY, byX] = strides;
  const { stride, top, left, kernel, enlarged, places: rows } = windows;
  const [height, width] = [image.height * enlarged, image.width * enlarged];
  const [, kernelWidth] = kernel;
  const isAligned = channels % tileSize === 0;
  const isGradient = op === "conv2dInputGrad";
  const alongInner = byChannel === 1;
  const original = (place: string): string => (enlarged === 1 ? place : `${place} / ${enlarged}u`);

  /** The pixel that a place of the kernel meets. */
  const pixel = (row: Names, kernelY: string, kernelX: string, name: (text: string) => string): Names => {
    const [y, x] = isGradient
      ? [name(`${row["y"]} - ${kernelY}`), name(`${row["x"]} - ${kernelX}`)]
      : [name(`${row["y"]} + ${kernelY}`), name(`${row["x"]} + ${kernelX}`)];
    if (!isGradient || stride === 1) {
      const valid = `u32(${y}) < ${height}u && u32(${x}) < ${width}u`;
      const place = `${original(`u32(${y})`)} * ${byY}u + ${original(`u32(${x})`)} * ${byX}u`;
      return { valid: name(valid), pixel: name(`${row["base"]} + ${place}`) };
    }
    const [stepY, stepX] = [name(`${y} / ${stride}`), name(`${x} / ${stride}`)];
    const valid = `${y} >= 0 && ${x} >= 0 && ${y} % ${stride} == 0 && ${x} % ${stride} == 0 && ${stepY} < ${height} && ${stepX} < ${width}`;
    return { valid: name(valid), pixel: name(`${row["base"]} + u32(${stepY}) * ${byY}u + u32(${stepX}) * ${byX}u`) };
  };
  const kernelPlace = (shader: Shader, tap: string): readonly [y: string, x: string] => [
    shader.let(`i32(${tap} / ${kernelWidth}u)`),
    shader.let(`i32(${tap} % ${kernelWidth}u)`),
  ];
  const begins = [channels, sizeOf(source.shape), offset, bySample, byY, byX];
  return {
    source,
    alongInner,
    width: alongInner ? widthOf(begins) : 1,
    row(shader, sample, row) {
      const [y, x] = [`i32(${row} / ${rows[1]}u % ${rows[0]}u)`, `i32(${row} % ${rows[1]}u)`];
      return {
        base: shader.let(`(${sample} + ${row} / ${rows[0] * rows[1]}u) * ${bySample}u + ${offset}u`),
        y: shader.let(isGradient ? `${y} + ${top}` : `${y} * ${stride} - ${top}`),
        x: shader.let(isGradient ? `${x} + ${left}` : `${x} * ${stride} - ${left}`),
      };
    },
    ...(isAligned && {
      tile: (shader: Shader, row: Names, begin: string) => {
        const [kernelY, kernelX] = kernelPlace(shader, `(${begin} / ${channels}u)`);
        return { ...row, ...pixel(row, kernelY, kernelX, (text) => shader.let(text)) };
      },
    }),
    inner(shader, index) {
      const channel = shader.let(`(${index} % ${channels}u) * ${byChannel}u`);
      if (isAligned) return { channel };
      const [kernelY, kernelX] = kernelPlace(shader, `(${index} / ${channels}u)`);
      return { channel, kernelY, kernelX };
    },
    at(row, { channel, kernelY, kernelX }) {
      const { valid, pixel: place } = isAligned ? row : pixel(row, kernelY!, kernelX!, (text) => `(${text})`);
      return { place: `${place} + ${channel}`, valid: valid! };
    },
  };
}

/** The same windows the other way round, for the gradient by the weights: rows are weights, and the inner axis runs over places. */
export function weightWindowsMatrix(image: Image, windows: Windows): Matrix {
  const { source, strides, offset, height, width } = image;
  const [bySample, byChannel, byY, byX] = strides;
  const { stride, top, left, kernel, places: out } = windows;
  const taps = kernel[0] * kernel[1];
  return {
    source,
    alongInner: true,
    width: 1,
    row: (shader, _sample, row) => ({
      base: shader.let(`${row} / ${taps}u * ${byChannel}u + ${offset}u`),
      y: shader.let(`i32(${row} % ${taps}u / ${kernel[1]}u) - ${top}`),
      x: shader.let(`i32(${row} % ${kernel[1]}u) - ${left}`),
    }),
    inner: (shader, index) => ({
      sample: shader.let(`${index} / ${out[0] * out[1]}u * ${bySample}u`),
      y: shader.let(`i32(${index} / ${out[1]}u % ${out[0]}u) * ${stride}`),
      x: shader.let(`i32(${index} % ${out[1]}u) * ${stride}`),
    }),
    at(row, inner) {
      const [y, x] = [`u32(${row["y"]} + ${inner["y"]})`, `u32(${row["x"]} + ${inner["x"]})`];
      return {
        place: `${row["base"]} + ${inner["sample"]} + ${y} * ${byY}u + ${x} * ${byX}u`,
        valid: `${y} < ${height}u && ${x} < ${width}u`,
      };
    },
  };
}

/** The left operand of the gradient by the weights: a gradient whose samples and places are the inner axis. */
export function gradientMatrix({ source, layout }: View): Matrix {
  const { sizes, strides, offset } = layout;
  const part = (axes: readonly number[]): Layout => ({
    sizes: axes.map((axis) => sizes[axis]!),
    strides: axes.map((axis) => strides[axis]!),
    offset: 0,
  });
  return stridedMatrix(source, { ...contiguous([]), offset }, part([1]), part([0, 2, 3]));
}
