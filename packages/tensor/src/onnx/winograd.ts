import { HostTensor, sizeOf, type Shape } from "../core/host-tensor.js";
import type { Node, NodeOf } from "../graph/node.js";
import type { Lowering } from "./lowering.js";

/**
 * Winograd's convolution F(2x2, 3x3) (https://arxiv.org/abs/1509.09308): two by two results from four by four pixels by
 * 16 products per pair of channels, where the definition takes 36.
 *
 *     result = AT [(G weight G^T) * (BT pixels B)] A, with G = [1 0 0; 1/2 1/2 1/2; 1/2 -1/2 1/2; 0 0 1]
 */
const BT = [
  [1, 0, -1, 0],
  [0, 1, 1, 0],
  [0, -1, 1, 0],
  [0, 1, 0, -1],
];
const AT = [
  [1, 1, 1, 0],
  [0, 1, -1, -1],
];
/** Products per pair of channels and tile. */
const POINTS = 16;

/**
 * From so many channels on the products saved outweigh the transformations: measured, 128 are even, 256 to 1,280 take
 * 0.57 to 0.92 of onnxruntime's time on images of 8x8 to 128x128.
 */
const FEWEST_CHANNELS = 192;
/**
 * Transformed weights take 16/9 of the memory. The largest are not transformed: in a U-Net they belong to the smallest images,
 * so that they take most of the memory and little of the time. Chosen: 640 by 640 channels are the largest transformed.
 */
const MOST_PAIRS = 500 * 1024;

/** Tiles are computed in parts, so that intermediate results take at most 16 MiB: chosen. */
const MOST_ELEMENTS = 2 ** 22;

/** Whether a conv2d is one that is faster by transformed weights. */
export function isWinogradConvolution(node: Node): node is NodeOf<"conv2d"> {
  if (node.op !== "conv2d" || node.attributes.stride !== 1) return false;
  const [outChannels = 1, inChannels = 1, ...kernel] = node.inputs[1].shape;
  return (
    kernel.every((size) => size === 3) &&
    Math.min(outChannels, inChannels) >= FEWEST_CHANNELS &&
    outChannels * inChannels <= MOST_PAIRS
  );
}

/** The shape of a transformed weight. */
export function winogradShape([outChannels = 1, inChannels = 1]: Shape): Shape {
  return [POINTS, outChannels, inChannels];
}

/** Pairs of channels transformed before they are written out, each point apart: chosen, within the nearest cache. */
const BLOCK = 256;

/** G weight G^T of a weight [outChannels, inChannels, 3, 3], shaped by `winogradShape`. */
export function winogradWeight({ shape, data }: HostTensor): HostTensor {
  const pairs = sizeOf(shape) / 9;
  const transformed = new Float32Array(POINTS * pairs);
  const block = new Float32Array(POINTS * BLOCK);
  const columns = new Float64Array(12); // G weight: [4, 3]
  for (let begin = 0; begin < pairs; begin += BLOCK) {
    const count = Math.min(BLOCK, pairs - begin);
    for (let pair = 0; pair < count; pair++) {
      for (let column = 0; column < 3; column++) {
        const from = 9 * (begin + pair) + column;
        const sum = data[from]! + data[from + 6]!;
        columns[column] = data[from]!;
        columns[3 + column] = (sum + data[from + 3]!) / 2;
        columns[6 + column] = (sum - data[from + 3]!) / 2;
        columns[9 + column] = data[from + 6]!;
      }
      for (let row = 0; row < 4; row++) {
        const from = 3 * row;
        const to = 4 * row * BLOCK + pair;
        const sum = columns[from]! + columns[from + 2]!;
        block[to] = columns[from]!;
        block[to + BLOCK] = (sum + columns[from + 1]!) / 2;
        block[to + 2 * BLOCK] = (sum - columns[from + 1]!) / 2;
        block[to + 3 * BLOCK] = columns[from + 2]!;
      }
    }
    for (let point = 0; point < POINTS; point++) {
      transformed.set(block.subarray(point * BLOCK, point * BLOCK + count), point * pairs + begin);
    }
  }
  return new HostTensor(winogradShape(shape), transformed);
}

/** A conv2d by a weight transformed by `winogradWeight`. */
export function winogradConvolution(
  l: Lowering,
  node: NodeOf<"conv2d">,
  image: string,
  weight: string,
  bias: string | undefined,
): string {
  const [batch = 1, outChannels = 1, height = 1, width = 1] = node.shape;
  const [, inChannels = 1, inHeight = 1, inWidth = 1] = node.inputs[0].shape;
  const [rows, columns] = [Math.ceil(height / 2), Math.ceil(width / 2)];
  const tiles = batch * rows * columns;

  // Pixels as rows of channels, so that tiles are gathered by whole rows; the last row is the zero padding.
  const pixels = l.emit("Transpose", [l.reshape(image, [batch, inChannels, inHeight * inWidth])], { perm: [0, 2, 1] });
  const outside = l.graph.shared(`zeros${inChannels}`, [1, inChannels], () => new Float32Array(inChannels));
  const all = l.emit("Concat", [l.reshape(pixels, [batch * inHeight * inWidth, inChannels]), outside], { axis: 0 });
  const parts = Math.ceil((POINTS * tiles * inChannels) / MOST_ELEMENTS);
  const results = split(tilePixels(node), parts).map((indices) => {
    const gathered = l.emit("Gather", [all, l.graph.integers(indices.flat())], { axis: 0 });
    const tilesOfPart = indices[0]?.length ?? 0;
    const points = l.emit("MatMul", [both(l, "BT", BT), l.reshape(gathered, [POINTS, tilesOfPart * inChannels])]);
    const tilesByChannels = l.reshape(points, [POINTS, tilesOfPart, inChannels]);
    const channelsByTiles = l.emit("Transpose", [tilesByChannels], { perm: [0, 2, 1] });
    const products = l.emit("MatMul", [weight, channelsByTiles]); // [POINTS, outChannels, tilesOfPart]
    const flat = l.reshape(products, [POINTS, outChannels * tilesOfPart]);
    return l.reshape(l.emit("MatMul", [both(l, "AT", AT), flat]), [4, outChannels, tilesOfPart]);
  });
  const [first = ""] = results;
  const result = parts === 1 ? first : l.emit("Concat", results, { axis: 2 });

  // Two exchanges of two axes each are faster than one of all.
  const parted = l.reshape(result, [2, 2, outChannels * tiles]);
  const wide = l.reshape(l.emit("Transpose", [parted], { perm: [0, 2, 1] }), [
    2,
    outChannels,
    batch,
    rows,
    2 * columns,
  ]);
  const joined = l.emit("Transpose", [wide], { perm: [2, 1, 3, 0, 4] });
  let convolved = l.reshape(joined, [batch, outChannels, 2 * rows, 2 * columns]);
  if (height % 2 === 1 || width % 2 === 1) {
    const bounds = [
      [0, 0],
      [height, width],
      [2, 3],
    ].map((values) => l.graph.integers(values));
    convolved = l.emit("Slice", [convolved, ...bounds]);
  }
  return bias === undefined ? convolved : l.emit("Add", [convolved, l.reshape(bias, [1, outChannels, 1, 1])]);
}

/** For each of a tile's pixels and each tile, the number of the pixel in the batch; the one after the last stands for padding. */
function tilePixels(node: NodeOf<"conv2d">): number[][] {
  const [batch = 1, , height = 1, width = 1] = node.shape;
  const [, , inHeight = 1, inWidth = 1] = node.inputs[0].shape;
  const [top, , left] = node.attributes.padding;
  return Array.from({ length: POINTS }, (_, point) => {
    const [firstRow, firstColumn] = [Math.floor(point / 4) - top, (point % 4) - left];
    const indices: number[] = [];
    for (let image = 0; image < batch; image++) {
      for (let row = firstRow; row < firstRow + height; row += 2) {
        for (let column = firstColumn; column < firstColumn + width; column += 2) {
          const isInside = row >= 0 && row < inHeight && column >= 0 && column < inWidth;
          indices.push(isInside ? (image * inHeight + row) * inWidth + column : batch * inHeight * inWidth);
        }
      }
    }
    return indices;
  });
}

/** Some columns of all rows at a time. */
function split(rows: readonly (readonly number[])[], parts: number): number[][][] {
  const length = Math.ceil((rows[0]?.length ?? 0) / parts);
  return Array.from({ length: parts }, (_, part) => rows.map((row) => row.slice(part * length, (part + 1) * length)));
}

/** The transformation along both axes of a tile as one matrix, the Kronecker product of `matrix` with itself. */
function both(l: Lowering, name: string, matrix: readonly (readonly number[])[]): string {
  const [rows, columns] = [matrix.length, matrix[0]?.length ?? 0];
  return l.graph.shared(`winograd${name}`, [rows ** 2, columns ** 2], () =>
    Float32Array.from(matrix.flatMap((a) => matrix.flatMap((b) => a.flatMap((x) => b.map((y) => x * y))))),
  );
}
