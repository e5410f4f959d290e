import { ShapeError } from "../../core/errors.js";
import { sizeOf, type Shape } from "../../core/host-tensor.js";
import {
  broadcastShapes,
  concatShape,
  conv2dShape,
  gatherShape,
  matmulShape,
  padShape,
  pooledShape,
  reducedShape,
  sameShape,
  show,
  sliceShape,
} from "../../core/shapes.js";
import { ELEMENTWISE } from "../../graph/elementwise.js";
import type { TensorType } from "../../graph/infer.js";
import type { Attributes, ImageLayout, Node, Operands, Operation } from "./node.js";

type Rule<Op extends Operation> = (inputs: Operands[Op], attributes: Attributes[Op]) => TensorType;

const float = (shape: Shape): TensorType => ({ shape, dtype: "float32" });
const asShape = (node: Node, shape: Shape): TensorType => ({ shape, dtype: node.dtype });

/** An NHWC shape with its channels where NCHW has them, and back. */
export const toNchw = ([samples = 1, height = 1, width = 1, channels = 1]: Shape): Shape => [
  samples,
  channels,
  height,
  width,
];
export const toNhwc = ([samples = 1, channels = 1, height = 1, width = 1]: Shape): Shape => [
  samples,
  height,
  width,
  channels,
];

const imageShape = (shape: Shape, layout: ImageLayout): Shape => (layout === "NHWC" ? toNchw(shape) : shape);
const inLayout = (shape: Shape, layout: ImageLayout): Shape => (layout === "NHWC" ? toNhwc(shape) : shape);

function mapType(inputs: readonly Node[], name: Attributes["map"]["function"]): TensorType {
  const shape = inputs.map((input) => input.shape).reduce((a, b) => broadcastShapes(name, a, b));
  const { result } = ELEMENTWISE[name];
  return { shape, dtype: result === "operands" ? inputs.at(-1)!.dtype : result };
}

/** Element type and shape of each operation's result, from its operands. Throws `ShapeError` where these do not fit. */
const rules: { readonly [Op in Operation]: Rule<Op> } = {
  input: (_, { shape, dtype }) => ({ shape, dtype }),
  constant: (_, { shape, dtype }) => ({ shape, dtype }),
  map: (inputs, attributes) => mapType(inputs, attributes.function),
  cast: ([x], { dtype }) => ({ shape: x.shape, dtype }),
  power: ([x]) => float(x.shape),
  gemm: ([a, b], { transposeA, transposeB }) => float(matmulShape(a.shape, b.shape, transposeA, transposeB)),
  convolution([image, filters, bias], { stride, padding, layout, upsample }) {
    const [samples = 1, channels = 1, height = 1, width = 1] = imageShape(image.shape, layout);
    const enlarged = [samples, channels, height * upsample, width * upsample];
    const [out = 1, kernelHeight = 1, kernelWidth = 1, inChannels = 1] = filters.shape;
    const shape = conv2dShape(enlarged, [out, inChannels, kernelHeight, kernelWidth], bias?.shape, stride, padding);
    return float(inLayout(shape, layout));
  },
  convolutionInputGradient: (_, { shape }) => float(shape),
  convolutionFilterGradient: (_, { shape }) => float(shape),
  reduction: ([x], { function: name, axes, keepDims }) => ({
    shape: reducedShape(x.shape, axes, keepDims),
    dtype: name === "argMax" ? "int32" : "float32",
  }),
  softmax: ([x]) => float(x.shape),
  normalize: ([x]) => float(x.shape),
  inverseStd: ([x], { axes }) => float(reducedShape(x.shape, axes, true)),
  reshape([x], { shape }) {
    if (sizeOf(shape) !== sizeOf(x.shape))
      throw new ShapeError(`reshape: ${show(x.shape)} does not fit ${show(shape)}.`);
    return asShape(x, shape);
  },
  transpose: ([x], { permutation }) =>
    asShape(
      x,
      permutation.map((axis) => x.shape[axis] ?? 0),
    ),
  broadcast([x], { shape }) {
    if (!sameShape(broadcastShapes("broadcast", x.shape, shape), shape)) {
      throw new ShapeError(`broadcast: ${show(x.shape)} does not broadcast to ${show(shape)}.`);
    }
    return asShape(x, shape);
  },
  slice: ([x], { axis, begin, size }) => asShape(x, sliceShape(x.shape, axis, begin, size)),
  concat: (inputs, { axis }) =>
    asShape(
      inputs[0],
      concatShape(
        inputs.map(({ shape }) => shape),
        axis,
      ),
    ),
  pad: ([x], { widths }) => asShape(x, padShape(x.shape, widths)),
  gather: ([table, indices], { axis }) => asShape(table, gatherShape(table.shape, indices.shape, axis)),
  resizeNearest([x], { size, layout }) {
    const [samples = 1, channels = 1] = imageShape(x.shape, layout);
    return asShape(x, inLayout([samples, channels, ...size], layout));
  },
  pool: ([x], { function: name, k }) => float(pooledShape(`pool ${name}`, x.shape, k)),
};

/** @throws ShapeError where the operands do not fit the operation */
export function inferType<Op extends Operation>(op: Op, inputs: Operands[Op], attributes: Attributes[Op]): TensorType {
  return rules[op](inputs, attributes);
}

/** Why a node's type is not what its operands give, or undefined where it is. */
export function typeProblem(node: Node): string | undefined {
  const { shape, dtype } = inferType(node.op, node.inputs as never, node.attributes as never);
  if (sameShape(shape, node.shape) && dtype === node.dtype) return undefined;
  return `is ${node.dtype} ${show(node.shape)}, its operands give ${dtype} ${show(shape)}`;
}
