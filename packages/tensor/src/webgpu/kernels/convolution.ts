import { sizeOf, type Shape } from "../../core/host-tensor.js";
import type { Sides } from "../../graph/node.js";
import type { ImageLayout, Node, NodeOf, OneOf } from "../ir/node.js";
import { stridedMatrix, widthOf, type Matrix, type Names, type Product } from "./gemm-operand.js";
import type { Shader, Surroundings } from "./shader.js";
import { contiguous, viewOf, type Layout, type View } from "./view.js";

/** Implicit GEMM: places of the result by filters, summed over each window's pixels and channels. */
export function convolutionProduct(
  node: OneOf<"convolution" | "convolutionInputGradient">,
  around: Surroundings,
  tileSize: number,
): Product {
  const { op, shape } = node;
  const [image, filters] = node.inputs;
  const view = viewOf(image, around.isStored);
  const [height = 1, width = 1] = filters.shape.slice(1, 3);
  const isLast = node.op === "convolution" && node.attributes.layout === "NHWC";
  const places = isLast ? shape.slice(1, 3) : shape.slice(2);
  const upsample = node.op === "convolution" ? node.attributes.upsample : 1;
  const windows = windowsOf(node.attributes, [height, width], places, upsample);
  const filterRows = filters.shape[0]!;
  const inner = sizeOf(filters.shape) / filterRows;
  const filterMatrix = stridedMatrix(
    filters,
    contiguous([]),
    { sizes: [filterRows], strides: [inner], offset: 0 },
    contiguous([inner]),
  );
  const [samples = 1] = shape;
  const windowMatrix = windowsMatrix(imageOf(view, image.shape, isLast ? "NHWC" : "NCHW"), windows, op, tileSize);
  return isLast
    ? {
        batch: 1,
        rows: samples * sizeOf(places),
        columns: filterRows,
        inner,
        left: windowMatrix,
        right: filterMatrix,
      }
    : { batch: samples, rows: filterRows, columns: sizeOf(places), inner, left: filterMatrix, right: windowMatrix };
}

export function filterGradientProduct(
  { inputs: [image, gradient], shape, attributes }: NodeOf<"convolutionFilterGradient">,
  around: Surroundings,
): Product {
  const [rows = 1, channels = 1, height = 1, width = 1] = shape;
  const [samples = 1, , outHeight = 1, outWidth = 1] = gradient.shape;
  const windows = windowsOf(attributes, [height, width], [outHeight, outWidth], 1);
  return {
    batch: 1,
    rows,
    columns: channels * height * width,
    inner: samples * outHeight * outWidth,
    left: gradientMatrix(viewOf(gradient, around.isStored)),
    right: filterGradientWindows(imageOf(viewOf(image, around.isStored), image.shape, "NCHW"), windows),
  };
}

const windowsOf = (
  { stride, padding: [top, , left] }: { readonly stride: number; readonly padding: Sides },
  kernel: readonly [height: number, width: number],
  places: Shape,
  upsample: number,
): Windows => ({ kernel, stride, top, left, upsample, places: [places[0]!, places[1]!] });

/** The windows in which filters meet an image. */
interface Windows {
  readonly kernel: readonly [height: number, width: number];
  readonly stride: number;
  readonly top: number;
  readonly left: number;
  /** How many times the image's pixels are repeated along either axis before. */
  readonly upsample: number;
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

/** @param shape in `order` */
function imageOf({ source, layout }: View, shape: Shape, order: ImageLayout): Image {
  const axes = order === "NHWC" ? [0, 3, 1, 2] : [0, 1, 2, 3];
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
function windowsMatrix(
  image: Image,
  windows: Windows,
  op: "convolution" | "convolutionInputGradient",
  tileSize: number,
): Matrix {
  const { source, strides, offset, channels } = image;
  const [bySample, byChannel, byY, byX] = strides;
  const { stride, top, left, kernel, upsample, places: rows } = windows;
  const [height, width] = [image.height * upsample, image.width * upsample];
  const [, kernelWidth] = kernel;
  const isAligned = channels % tileSize === 0;
  const isGradient = op === "convolutionInputGradient";
  const alongInner = byChannel === 1;
  const original = (place: string): string => (upsample === 1 ? place : `${place} / ${upsample}u`);

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

/** The same windows for the gradient by the filters: columns are weights, and the inner axis runs over places. */
function filterGradientWindows(image: Image, windows: Windows): Matrix {
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

/** The left operand of the gradient by the filters: the inner axis runs over the samples and places of the gradient. */
function gradientMatrix({ source, layout }: View): Matrix {
  const { sizes, strides, offset } = layout;
  const part = (axes: readonly number[]): Layout => ({
    sizes: axes.map((axis) => sizes[axis]!),
    strides: axes.map((axis) => strides[axis]!),
    offset: 0,
  });
  return stridedMatrix(source, { ...contiguous([]), offset }, part([1]), part([0, 2, 3]));
}
