import type { Range, WeightRanges } from "../core/program.js";
import type { Node, NodeOf } from "../graph/node.js";
import { sizeOf } from "../core/host-tensor.js";
import type { AttributeValue } from "./model.js";
import type { Lowering } from "./lowering.js";

/** Narrower ones, as at a network's ends, take little time and lose the most: chosen. */
const FEWEST_CHANNELS = 16;
/** With fewer rows, as of embedded timesteps, a product is bound by reading its weight once: chosen. */
const FEWEST_ROWS = 8;

/** Whether a node is computed in 8 bits where its weight has ranges. */
export function isInt8(node: Node): boolean {
  if (node.op !== "conv2d" && node.op !== "matmul") return false;
  const [x, weight] = node.inputs;
  if (weight.op !== "constant") return false;
  if (node.op === "conv2d") return Math.min(weight.shape[0] ?? 0, weight.shape[1] ?? 0) >= FEWEST_CHANNELS;
  return (
    x.shape.length === 2 &&
    weight.shape.length === 2 &&
    !node.attributes.transposeA &&
    (x.shape[0] ?? 0) >= FEWEST_ROWS &&
    Math.min(...weight.shape) >= FEWEST_CHANNELS
  );
}

/**
 * A convolution of 8-bit images and weights, as ONNX writes them: float32 operators between QuantizeLinear and
 * DequantizeLinear, which onnxruntime joins to QLinearConv. Images have one scale, weights one for each output channel.
 */
export function int8Convolution(
  l: Lowering,
  node: NodeOf<"conv2d">,
  { input, output }: WeightRanges,
  attributes: Readonly<Record<string, AttributeValue>>,
): string {
  const [x, weight, bias] = node.inputs;
  const image = eightBits(l, l.value(x), input);
  const scales = channelScales(weight, 0);
  const constantBias = bias?.op === "constant" ? bias : undefined;
  const operands = [image, weightInBits(l, weight, scales, 0)];
  if (constantBias) operands.push(biasInBits(l, constantBias, scales, scaleOf(input).scale));
  const convolved = l.emit("Conv", operands, attributes);
  const rest =
    bias !== undefined && !constantBias ? l.reshape(l.value(bias), [1, weight.shape[0] ?? 1, 1, 1]) : undefined;
  const result = rest === undefined ? convolved : l.emit("Add", [convolved, rest]);
  // A ReLU that follows is part of the convolution: it is what is rounded.
  return l.isFollowedByRelu(node) ? result : eightBits(l, result, output);
}

/** A product of an 8-bit matrix [rows, inner] and an 8-bit weight, which has a scale for each column; in float32. */
export function int8Product(l: Lowering, product: NodeOf<"matmul">, { input }: WeightRanges): string {
  const [a, weight] = product.inputs;
  const isTransposed = product.attributes.transposeB;
  const columns = isTransposed ? 0 : 1;
  const scales = channelScales(weight, columns);
  const matrix = weightInBits(l, weight, scales, columns, isTransposed);
  return l.emit("MatMul", [eightBits(l, l.value(a), input), matrix]);
}

/** `value` rounded to 256 steps over its range, as the float32 that they stand for; once per value. */
export function eightBits(l: Lowering, value: string, range: Range): string {
  if (l.rounded.has(value)) return value;
  const { scale, zero } = scaleOf(range);
  const key = `${value} ${scale} ${zero}`;
  const known = l.roundings.get(key);
  if (known !== undefined) return known;
  const steps = [l.scalar(scale), l.graph.shared(`u${zero}`, [], () => Uint8ClampedArray.of(zero))];
  const rounded = l.emit("DequantizeLinear", [l.emit("QuantizeLinear", [value, ...steps]), ...steps]);
  l.roundings.set(key, rounded);
  l.rounded.add(rounded);
  return rounded;
}

/** 0 is among the steps, so that padding stays exact. */
function scaleOf([least, greatest]: Range): { readonly scale: number; readonly zero: number } {
  const low = Math.min(least, 0);
  const scale = Math.fround((Math.max(greatest, 0) - low) / 255) || 1;
  return { scale, zero: Math.round(-low / scale) };
}

/** Calls `visit` for each run of elements of one channel along an axis: 0, or 1 of a matrix. */
function forRuns(
  { shape }: Pick<Node, "shape">,
  axis: number,
  visit: (channel: number, begin: number, end: number) => void,
) {
  const [channels = 1] = shape.slice(axis);
  const [runs, length] = [sizeOf(shape.slice(0, axis)), sizeOf(shape.slice(axis + 1))];
  for (let run = 0; run < runs * channels; run++) visit(run % channels, run * length, (run + 1) * length);
}

/** The step of each channel along an axis: the largest magnitude becomes 127. */
function channelScales(weight: Node, axis: number): Float32Array<ArrayBuffer> {
  const { shape, data = new Float32Array(0) } = weight;
  const scales = new Float32Array(shape[axis] ?? 1);
  forRuns(weight, axis, (channel, begin, end) => {
    let greatest = scales[channel]!;
    for (let i = begin; i < end; i++) greatest = Math.max(greatest, Math.abs(data[i]!));
    scales[channel] = greatest;
  });
  return scales.map((greatest) => greatest / 127 || 1);
}

/** A weight of an operation, with the channels along an axis; `transposed` stores a matrix the other way round. */
function weightInBits(
  l: Lowering,
  weight: Node,
  scales: Float32Array<ArrayBuffer>,
  axis: number,
  transposed = false,
): string {
  const { shape, data = new Float32Array(0) } = weight;
  const [rows = 1, columns = 1] = shape;
  const steps = new Int8Array(data.length);
  forRuns(weight, axis, (channel, begin, end) => {
    const scale = scales[channel]!;
    for (let i = begin; i < end; i++) {
      const at = transposed ? (i % columns) * rows + Math.floor(i / columns) : i;
      steps[at] = Math.round(data[i]! / scale);
    }
  });
  const stored = l.graph.initializer(transposed ? [columns, rows] : shape, steps);
  const perChannel = l.graph.initializer([scales.length], scales);
  return l.emit("DequantizeLinear", [stored, perChannel], { axis: transposed ? 1 - axis : axis });
}

/** In the steps of the products that it is added to. */
function biasInBits(l: Lowering, { shape, data }: Node, scales: Float32Array<ArrayBuffer>, scale: number): string {
  const steps = scales.map((channel) => channel * scale);
  const rounded = Int32Array.from(data!, (value, i) => Math.round(value / steps[i]!));
  const operands = [l.graph.initializer(shape, rounded), l.graph.initializer(shape, steps)];
  return l.emit("DequantizeLinear", operands, { axis: 0 });
}
