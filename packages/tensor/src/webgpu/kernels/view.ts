import type { Node } from "../ir/node.js";
import { broadcastShapes } from "../../core/shapes.js";
import type { Shape } from "../../core/host-tensor.js";

/** The places of elements in memory: element (i0, i1, ...) at `offset` plus the sum of each index times its stride. */
export interface Layout {
  readonly sizes: Shape;
  readonly strides: readonly number[];
  readonly offset: number;
}

/** A tensor as elements of another one. */
export interface View {
  readonly source: Node;
  readonly layout: Layout;
}

/** Row-major and without gaps. */
export function contiguous(sizes: Shape): Layout {
  const strides: number[] = [];
  let stride = 1;
  for (const size of [...sizes].reverse()) {
    strides.unshift(stride);
    stride *= size;
  }
  return { sizes, strides, offset: 0 };
}

/** The layout in which a tensor of this layout stands for a larger one, as NumPy broadcasts. */
export function broadcastLayout({ sizes, strides, offset }: Layout, shape: Shape): Layout {
  broadcastShapes("broadcast", sizes, shape);
  const missing = shape.length - sizes.length;
  return {
    sizes: shape,
    strides: shape.map((_, axis) =>
      axis < missing || sizes[axis - missing] === 1 ? 0 : (strides[axis - missing] ?? 0),
    ),
    offset,
  };
}

/** The same elements in fewer axes: those of size 1 left out, those that follow each other in memory as one. */
export function merged({ sizes, strides, offset }: Layout): Layout {
  const axes: [size: number, stride: number][] = [];
  sizes.forEach((size, axis) => {
    const stride = strides[axis] ?? 0;
    if (size === 1) return;
    const last = axes.at(-1);
    if (last && last[1] === stride * size) axes[axes.length - 1] = [last[0] * size, stride];
    else axes.push([size, stride]);
  });
  return { sizes: axes.map(([size]) => size), strides: axes.map(([, stride]) => stride), offset };
}

/** The layout under another shape of the same size, or undefined where that takes a copy. */
export function reshaped(layout: Layout, shape: Shape): Layout | undefined {
  const { sizes, strides, offset } = merged(layout);
  const result: number[] = [];
  let axis = sizes.length - 1;
  let left = sizes[axis] ?? 1;
  let stride = strides[axis] ?? 0;
  for (const size of [...shape].reverse()) {
    if (size === 1) {
      result.unshift(0);
      continue;
    }
    if (left === 1 && axis > 0) {
      axis -= 1;
      left = sizes[axis] ?? 1;
      stride = strides[axis] ?? 0;
    }
    if (left % size !== 0) return undefined;
    result.unshift(stride);
    stride *= size;
    left /= size;
  }
  return { sizes: shape, strides: result, offset };
}

/** The tensor that a node's elements are those of, looking through views. */
export function viewOf(node: Node, isStored: (node: Node) => boolean): View {
  const [input] = node.inputs;
  if (!input || isStored(node)) return { source: node, layout: contiguous(node.shape) };
  const inner = viewOf(input, isStored);
  const layout = layoutOfView(node, inner.layout);
  return layout ? { source: inner.source, layout } : { source: node, layout: contiguous(node.shape) };
}

/** The layout of a view of an operand in this layout; undefined where that takes a copy, and of other nodes. */
export function layoutOfView(node: Node, layout: Layout): Layout | undefined {
  const { sizes, strides, offset } = layout;
  switch (node.op) {
    case "reshape":
      return reshaped(layout, node.shape);
    case "broadcast":
      return broadcastLayout(layout, node.shape);
    case "transpose": {
      const { permutation } = node.attributes;
      return {
        sizes: permutation.map((axis) => sizes[axis]!),
        strides: permutation.map((axis) => strides[axis]!),
        offset,
      };
    }
    case "slice": {
      const { axis, begin } = node.attributes;
      return { sizes: node.shape, strides, offset: offset + begin * strides[axis]! };
    }
    default:
      return undefined;
  }
}

/** The place of element number `index`, in WGSL. */
export function placeOf(layout: Layout, index: string): string {
  const { sizes, strides, offset } = merged(layout);
  const terms: string[] = [];
  let inner = 1;
  for (let axis = sizes.length - 1; axis >= 0; axis--) {
    const [size = 1, stride = 0] = [sizes[axis], strides[axis]];
    if (stride !== 0) {
      const quotient = inner === 1 ? index : `(${index} / ${inner}u)`;
      const coordinate = axis === 0 ? quotient : `(${quotient} % ${size}u)`;
      terms.unshift(stride === 1 ? coordinate : `${coordinate} * ${stride}u`);
    }
    inner *= size;
  }
  if (offset > 0) terms.push(`${offset}u`);
  return terms.length === 0
    ? "0u"
    : terms.length === 1 && !terms[0]!.includes(" * ")
      ? terms[0]!
      : `(${terms.join(" + ")})`;
}
