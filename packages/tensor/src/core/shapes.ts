import { layoutHint } from "./arguments.js";
import { ShapeError } from "./errors.js";
import { sizeOf, type Shape } from "./host-tensor.js";
import type { Padding } from "./ops.js";

export const show = (shape: Shape): string => `[${shape.join(", ")}]`;

export const sameShape = (a: Shape, b: Shape): boolean => a.length === b.length && a.every((size, i) => size === b[i]);

/** NumPy's broadcast of two shapes. */
export function broadcastShapes(operation: string, a: Shape, b: Shape): Shape {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, i) => {
    const left = a[a.length - rank + i] ?? 1;
    const right = b[b.length - rank + i] ?? 1;
    if (left !== right && left !== 1 && right !== 1) {
      throw new ShapeError(`${operation}: shapes ${show(a)} and ${show(b)} do not broadcast together.`);
    }
    return left === 1 ? right : left;
  });
}

/** An axis counted from the front. */
export function normalizeAxis(operation: string, axis: number, rank: number): number {
  const positive = axis < 0 ? axis + rank : axis;
  if (!Number.isInteger(axis) || positive < 0 || positive >= rank) {
    throw new ShapeError(`${operation}: axis ${axis} does not exist in a tensor of ${rank} axes.`);
  }
  return positive;
}

/** Sorted, distinct, counted from the front; all axes where none are given. */
export function normalizeAxes(operation: string, axes: readonly number[] | undefined, rank: number): readonly number[] {
  if (axes === undefined) return Array.from({ length: rank }, (_, i) => i);
  const sorted = axes.map((axis) => normalizeAxis(operation, axis, rank)).sort((a, b) => a - b);
  if (new Set(sorted).size !== sorted.length) {
    throw new ShapeError(`${operation}: axes ${show(axes)} name one axis twice.`);
  }
  return sorted;
}

export function reducedShape(shape: Shape, axes: readonly number[], keepDims: boolean): Shape {
  return keepDims
    ? shape.map((size, axis) => (axes.includes(axis) ? 1 : size))
    : shape.filter((_, axis) => !axes.includes(axis));
}

/** Replaces one -1 by the size that follows from the others. */
export function resolveReshape(from: Shape, to: Shape): Shape {
  const total = sizeOf(from);
  const known = to.reduce((product, size) => (size === -1 ? product : product * size), 1);
  const holes = to.filter((size) => size === -1).length;
  const resolved = to.map((size) => (size === -1 ? total / known : size));
  if (holes > 1 || resolved.some((size) => !Number.isInteger(size) || size < 0) || sizeOf(resolved) !== total) {
    throw new ShapeError(`reshape: ${show(from)} has ${total} elements, which do not fit ${show(to)}.`);
  }
  return resolved;
}

export function fourSides(padding: Padding): readonly [number, number, number, number] {
  return typeof padding === "number" ? [padding, padding, padding, padding] : padding;
}

export function conv2dShape(
  x: Shape,
  weight: Shape,
  bias: Shape | undefined,
  stride: number,
  padding: readonly number[],
): Shape {
  const [batch, channels, height, width] = x;
  const [outChannels, inChannels, kernelHeight, kernelWidth] = weight;
  if (x.length !== 4 || weight.length !== 4) {
    throw new ShapeError(
      `conv2d: expected an image [N, Ci, H, W] and weights [Co, Ci, kh, kw], got ${show(x)} and ${show(weight)}.`,
    );
  }
  if (channels !== inChannels) {
    throw new ShapeError(
      `conv2d: the image ${show(x)} has ${channels} channels, the weights ${show(weight)} want ${inChannels}.` +
        layoutHint(x),
    );
  }
  if (bias && !sameShape(bias, [outChannels ?? 0])) {
    throw new ShapeError(`conv2d: expected a bias of shape [${outChannels}], got ${show(bias)}.`);
  }
  const [top = 0, bottom = 0, left = 0, right = 0] = padding;
  const outHeight = Math.floor(((height ?? 0) + top + bottom - (kernelHeight ?? 0)) / stride) + 1;
  const outWidth = Math.floor(((width ?? 0) + left + right - (kernelWidth ?? 0)) / stride) + 1;
  if (outHeight < 1 || outWidth < 1) {
    throw new ShapeError(`conv2d: the kernel of ${show(weight)} is larger than the padded image ${show(x)}.`);
  }
  return [batch ?? 0, outChannels ?? 0, outHeight, outWidth];
}

export function matmulShape(a: Shape, b: Shape, transposeA: boolean, transposeB: boolean): Shape {
  if (a.length < 2 || b.length < 2) {
    throw new ShapeError(`matmul: expected operands of at least two axes, got ${show(a)} and ${show(b)}.`);
  }
  const [rows, innerA] = transposeA ? [a.at(-1), a.at(-2)] : [a.at(-2), a.at(-1)];
  const [innerB, columns] = transposeB ? [b.at(-1), b.at(-2)] : [b.at(-2), b.at(-1)];
  if (innerA !== innerB) {
    throw new ShapeError(
      `matmul: the inner sizes differ: ${show(a)}${transposeA ? " transposed" : ""} and ${show(b)}${transposeB ? " transposed" : ""}.`,
    );
  }
  return [...broadcastShapes("matmul", a.slice(0, -2), b.slice(0, -2)), rows ?? 0, columns ?? 0];
}

/** [N, C, H / k, W / k]. */
export function pooledShape(operation: string, x: Shape, k: number): Shape {
  const [batch = 0, channels = 0, height = 0, width = 0] = x;
  if (x.length !== 4 || height % k !== 0 || width % k !== 0) {
    throw new ShapeError(`${operation}: expected [N, C, H, W] with H and W divisible by ${k}, got ${show(x)}.`);
  }
  return [batch, channels, height / k, width / k];
}

/** Axes counted from the front. */
export function transposeAxes(x: Shape, permutation: readonly number[]): readonly number[] {
  const axes = permutation.map((axis) => normalizeAxis("transpose", axis, x.length));
  if (new Set(axes).size !== x.length || axes.length !== x.length) {
    throw new ShapeError(`transpose: [${permutation.join(", ")}] is no permutation of the axes of ${show(x)}.`);
  }
  return axes;
}

/** The shape of tensors joined along an axis counted from the front. */
export function concatShape(shapes: readonly Shape[], axis: number): Shape {
  const first = shapes[0] ?? [];
  if (
    shapes.some((shape) => shape.length !== first.length || shape.some((size, i) => i !== axis && size !== first[i]))
  ) {
    throw new ShapeError(`concat: shapes differ off axis ${axis}: ${shapes.map(show).join(", ")}.`);
  }
  const total = shapes.reduce((sum, shape) => sum + (shape[axis] ?? 0), 0);
  return first.map((size, i) => (i === axis ? total : size));
}

/** The shape of elements [begin, begin + size) along an axis counted from the front. */
export function sliceShape(x: Shape, axis: number, begin: number, size: number): Shape {
  if (!(begin >= 0 && size >= 0 && begin + size <= (x[axis] ?? 0))) {
    throw new ShapeError(`slice: [${begin}, ${begin + size}) lies outside axis ${axis} of ${show(x)}.`);
  }
  return x.map((old, i) => (i === axis ? size : old));
}

export function padShape(x: Shape, widths: readonly (readonly [number, number])[]): Shape {
  if (widths.length !== x.length || widths.some(([before, after]) => before < 0 || after < 0)) {
    throw new ShapeError(`pad: expected ${x.length} pairs of widths of at least 0, got ${JSON.stringify(widths)}.`);
  }
  return x.map((size, axis) => size + (widths[axis]?.[0] ?? 0) + (widths[axis]?.[1] ?? 0));
}

export function resizeShape(x: Shape, [height, width]: readonly [number, number]): Shape {
  const [batch = 0, channels = 0] = x;
  if (x.length !== 4) throw new ShapeError(`resizeNearest: expected [N, C, H, W], got ${show(x)}.`);
  if (!(height >= 1 && width >= 1)) {
    throw new ShapeError(`resizeNearest: expected sizes of at least 1, got [${height}, ${width}].`);
  }
  return [batch, channels, height, width];
}

/** The indices' axes in place of the axis, which is counted from the front. */
export function gatherShape(x: Shape, indices: Shape, axis: number): Shape {
  return [...x.slice(0, axis), ...indices, ...x.slice(axis + 1)];
}
