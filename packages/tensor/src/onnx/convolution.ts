import { sizeOf } from "../core/host-tensor.js";
import type { Node, NodeOf, OneOf } from "../graph/node.js";
import { int8Convolution } from "./int8.js";
import type { Lowering } from "./lowering.js";
import { OnnxGraph, type AttributeValue } from "./model.js";
import { winogradConvolution } from "./winograd.js";

function convAttributes(
  { attributes: { stride, padding } }: OneOf<"conv2d" | "conv2dInputGrad">,
  weight: Node,
): Record<string, AttributeValue> {
  const [top, bottom, left, right] = padding;
  return { kernel_shape: weight.shape.slice(2), strides: [stride, stride], pads: [top, left, bottom, right] };
}

/** A convolution by the fastest algorithm for its weights: 8 bits, Winograd, blocked, or ONNX's Conv. */
export function convolution(l: Lowering, node: NodeOf<"conv2d">): string {
  const [, weight] = node.inputs;
  const [image, weights, ...bias] = node.inputs.map((input) => l.value(input)) as [string, string, ...string[]];
  const attributes = convAttributes(node, weight);
  const ranges = l.int8.get(weight);
  if (ranges) return int8Convolution(l, node, ranges, attributes);
  if (l.arranged.has(weights)) return winogradConvolution(l, node, image, weights, bias[0]);
  if (!blocksPay(l, node, weight)) {
    const operands = convOperands(l, image, weights, weight.shape[1] ?? 1);
    return l.emit("Conv", [...operands, ...bias], attributes);
  }
  const [outChannels = 1, inChannels = 1, kernelHeight = 1, kernelWidth = 1] = weight.shape;
  const { channelBlock: block } = l;
  const area = kernelHeight * kernelWidth;
  const rows = l.reshape(weights, [outChannels / block, block, inChannels * area]);
  // A product with the identity: onnxruntime transposes operands of products faster than it transposes.
  const turned = l.emit("MatMul", [l.emit("Transpose", [rows], { perm: [0, 2, 1] }), identity(l, block)]);
  const blocks = l.reshape(turned, [outChannels / block, inChannels / block, block, area, block]);
  const ordered = l.emit("Transpose", [blocks], { perm: [0, 1, 3, 2, 4] });
  return blockedConvolution(l, node, image, [l.reshape(ordered, weight.shape), ...bias], attributes);
}

/** The domain of the convolution into which onnxruntime turns those of constant weights on CPUs. */
const BLOCKED = "com.microsoft.nchwc";

/**
 * From this many pixels of results on, the blocked convolution saves more than arranging weights and images for it
 * costs; weights larger than the caches need the larger number. Measured, at 256 to 8,192 pixels and 64 to 1,280 channels.
 */
const BLOCKED_FROM_PIXELS = { small: 512, large: 4096 };
const LARGE_WEIGHT = 2 ** 20;

/** onnxruntime itself arranges constant weights, once. */
function blocksPay(l: Lowering, node: Node, weight: Node): boolean {
  const { channelBlock: block } = l;
  const [outChannels = 1, inChannels = 1, ...kernel] = weight.shape;
  const [batch = 1, , height = 1, width = 1] = node.shape;
  return (
    block > 0 &&
    outChannels % block === 0 &&
    inChannels % block === 0 &&
    sizeOf(kernel) > 1 &&
    batch * height * width >= BLOCKED_FROM_PIXELS[sizeOf(weight.shape) < LARGE_WEIGHT ? "small" : "large"] &&
    weight.op !== "constant"
  );
}

/**
 * A convolution over images with blocked channels, [batch, channels / block, height, width, block], by weights
 * in the order [out / block, in / block, height, width, in block, out block].
 */
function blockedConvolution(
  l: Lowering,
  node: Node,
  image: string,
  weightAndBias: readonly string[],
  attributes: Readonly<Record<string, AttributeValue>>,
): string {
  const blocks = l.emit(`${BLOCKED}::ReorderInput`, [image]);
  const result = l.emit(`${BLOCKED}::Conv`, [blocks, ...weightAndBias], attributes);
  return l.emit(`${BLOCKED}::ReorderOutput`, [result], { channels: node.shape[1] ?? 1 });
}

/**
 * A graph that shows how many channels a block has: the second pixel of the first channel of `image` [1, 32, 1, 2]
 * comes after all of the block's channels of the first pixel.
 */
export function channelBlockProbe(): Uint8Array<ArrayBuffer> {
  const graph = new OnnxGraph();
  graph.input("image", "float32", [1, 32, 1, 2]);
  const [blocks = ""] = graph.node(`${BLOCKED}::ReorderInput`, ["image"]);
  graph.output(blocks, "float32", [1, 32, 1, 2]);
  return graph.serialize().model;
}

function identity(l: Lowering, size: number): string {
  return l.graph.shared(`identity${size}`, [size, size], () =>
    Float32Array.from({ length: size * size }, (_, i) => (Math.floor(i / size) === i % size ? 1 : 0)),
  );
}

/**
 * Image and weight of a Conv over `channels` input channels. onnxruntime's WebGPU provider (1.30.0, channels last) gives
 * wrong results where their number is divisible by 3 but not by 4, unless it is 3: zeros make it divisible by 4.
 */
function convOperands(l: Lowering, image: string, weight: string, channels: number): [image: string, weight: string] {
  if (!l.webgpu || channels === 3 || channels % 3 !== 0 || channels % 4 === 0) return [image, weight];
  const zeros = l.graph.integers([0, 0, 0, 0, 0, 4 - (channels % 4), 0, 0]);
  return [l.emit("Pad", [image, zeros]), l.emit("Pad", [weight, zeros])];
}

/** Stride 1: convolution with weights flipped and exchanged; else ConvTranspose. */
export function inputGradient(l: Lowering, node: NodeOf<"conv2dInputGrad">): string {
  const [gradient, weight] = node.inputs;
  const [outChannels = 1, inChannels = 1, kernelHeight = 1, kernelWidth = 1] = weight.shape;
  const { stride, padding } = node.attributes;
  const [top, bottom, left, right] = padding;
  const fits = Math.max(top, bottom) < kernelHeight && Math.max(left, right) < kernelWidth;
  if (stride === 1 && fits) {
    const area = kernelHeight * kernelWidth;
    const taps = (): string => l.reshape(l.value(weight), [outChannels * inChannels, area]);
    // Reversing the taps as a product with a permutation matrix: faster than Slice with negative steps.
    const reversal = (): string =>
      l.graph.shared(`reversal${area}`, [area, area], () =>
        Float32Array.from({ length: area * area }, (_, i) => (Math.floor(i / area) + (i % area) === area - 1 ? 1 : 0)),
      );
    const attributes = {
      kernel_shape: [kernelHeight, kernelWidth],
      strides: [1, 1],
      pads: [kernelHeight - 1 - top, kernelWidth - 1 - left, kernelHeight - 1 - bottom, kernelWidth - 1 - right],
    };
    if (blocksPay(l, node, weight)) {
      const { channelBlock: block } = l;
      const turned = l.emit("Gemm", [reversal(), taps()], { transB: 1 }); // [area, outChannels * inChannels]
      const blocks = l.reshape(turned, [area, outChannels / block, block, inChannels / block, block]);
      const ordered = l.emit("Transpose", [blocks], { perm: [3, 1, 0, 2, 4] });
      const weights = l.reshape(ordered, [inChannels, outChannels, kernelHeight, kernelWidth]);
      return blockedConvolution(l, node, l.in(node, 0), [weights], attributes);
    }
    const flipped = area > 1 ? l.reshape(l.emit("Gemm", [taps(), reversal()]), weight.shape) : l.value(weight);
    const exchanged = l.emit("Transpose", [flipped], { perm: [1, 0, 2, 3] });
    return l.emit("Conv", convOperands(l, l.in(node, 0), exchanged, outChannels), attributes);
  }
  const [, , height = 1, width = 1] = node.shape;
  const [, , outHeight = 1, outWidth = 1] = gradient.shape;
  const missing = [
    height - (stride * (outHeight - 1) + kernelHeight - top - bottom),
    width - (stride * (outWidth - 1) + kernelWidth - left - right),
  ];
  return l.emit("ConvTranspose", [l.in(node, 0), l.value(weight)], {
    ...convAttributes(node, weight),
    output_padding: missing,
  });
}

/**
 * One matrix product over all pixels per tap of the kernel, of one operand shifted against the other.
 *
 * Both are first laid out as [height, width, batch, channels], where a shift by rows or columns moves long
 * consecutive pieces of memory; in [batch, channels, height, width] it would move single rows of the image.
 */
export function weightGradient(l: Lowering, node: NodeOf<"conv2dWeightGrad">): string {
  const [x, gradient] = node.inputs;
  const [batch = 1, inChannels = 1, height = 1, width = 1] = x.shape;
  const [, outChannels = 1, outHeight = 1, outWidth = 1] = gradient.shape;
  const [, , kernelHeight = 1, kernelWidth = 1] = node.shape;
  const { stride, padding } = node.attributes;
  const [top, bottom, left, right] = padding;
  const area = kernelHeight * kernelWidth;

  const pixelMajor = ({ shape: [n = 1, channels = 1, rows = 1, columns = 1] }: Node, value: string): string => {
    const transposed = l.emit("Transpose", [l.reshape(value, [n * channels, rows * columns])], { perm: [1, 0] });
    return l.reshape(transposed, [rows, columns, n * channels]);
  };
  const padded = (value: string, [above, below, before, after]: readonly [number, number, number, number]): string =>
    above + below + before + after === 0
      ? value
      : l.emit("Pad", [value, l.graph.integers([above, before, 0, below, after, 0])]);
  const window = (value: string, row: number, column: number, rows: number, columns: number): string =>
    l.emit("Slice", [
      value,
      l.graph.integers([row, column]),
      l.graph.integers([row + stride * (rows - 1) + 1, column + stride * (columns - 1) + 1]),
      l.graph.integers([0, 1]),
      l.graph.integers([stride, stride]),
    ]);
  const taps: string[] = [];
  const addTap = (g: string, image: string, pixels: number): void => {
    const operands = [l.reshape(g, [pixels, outChannels]), l.reshape(image, [pixels, inChannels])];
    taps.push(l.emit("Gemm", operands, { transA: 1 })); // [outChannels, inChannels]
  };

  const [image, g] = [pixelMajor(x, l.value(x)), pixelMajor(gradient, l.value(gradient))];
  if (area === 1 && stride === 1 && top + bottom + left + right === 0) {
    const pixels = batch * height * width;
    const operands = [l.reshape(g, [pixels, outChannels]), l.reshape(image, [pixels, inChannels])];
    return l.emitRaw(node, "Gemm", operands, { transA: 1 }, [outChannels, inChannels]);
  }
  // Shifting copies, so the operand of fewer channels moves; with a stride only the input can.
  if (
    stride !== 1 ||
    inChannels <= outChannels ||
    Math.max(top, bottom, left, right) >= Math.min(kernelHeight, kernelWidth)
  ) {
    const source = padded(image, [top, bottom, left, right]);
    for (let row = 0; row < kernelHeight; row++) {
      for (let column = 0; column < kernelWidth; column++) {
        addTap(g, window(source, row, column, outHeight, outWidth), batch * outHeight * outWidth);
      }
    }
  } else {
    const [lastRow, lastColumn] = [kernelHeight - 1, kernelWidth - 1];
    const source = padded(g, [lastRow - top, lastRow - bottom, lastColumn - left, lastColumn - right]);
    for (let row = lastRow; row >= 0; row--) {
      for (let column = lastColumn; column >= 0; column--) {
        addTap(window(source, row, column, height, width), image, batch * height * width);
      }
    }
  }
  const stacked = l.reshape(l.emit("Concat", taps, { axis: 0 }), [area, outChannels * inChannels]);
  // The transposition to [outChannels * inChannels, area] as a product: faster than Transpose on long, thin matrices.
  return l.emitRaw(node, "Gemm", [stacked, identity(l, area)], { transA: 1 }, [outChannels * inChannels, area]);
}
