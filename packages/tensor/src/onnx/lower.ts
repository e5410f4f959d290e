import { InvalidArgumentError } from "../core/errors.js";
import { sizeOf, type Shape } from "../core/host-tensor.js";
import type { Operand } from "../core/ops.js";
import { cosine, sine, type SineOps } from "../core/sine.js";
import { forElementwise } from "../graph/elementwise.js";
import { memoryOf, reachable, type Node, type NodeOf, type OneOf } from "../graph/node.js";
import { convolution, inputGradient, weightGradient } from "./convolution.js";
import { eightBits, int8Product, isInt8 } from "./int8.js";
import {
  biasedProduct,
  geluParts,
  Lowering,
  type LoweredWeights,
  type LoweringOptions,
  type LoweringRules,
} from "./lowering.js";
import { ELEMENT_TYPE, EXTERNAL_FROM_BYTES, type AttributeValue, type OnnxGraph } from "./model.js";
import { isWinogradConvolution, winogradShape } from "./winograd.js";

export interface LoweredOutput {
  /** The ONNX value that holds the output. */
  readonly value: string;
  /** Its shape as the program sees it; the ONNX value may have another one of as many elements. */
  readonly shape: Shape;
}

export interface LoweredGraph {
  readonly graph: OnnxGraph;
  /** Names of the inputs that the outputs depend on; others are not part of the graph. */
  readonly inputs: readonly string[];
  readonly outputs: Readonly<Record<string, LoweredOutput>>;
  /** Inputs among the options' `arrangeable` that the graph takes as transformed by `winogradWeight`. */
  readonly arranged: ReadonlySet<string>;
}

/** Writes what the outputs depend on as ONNX operators: standard ones only, unless `channelBlock` is given. */
export function lower(
  outputs: Readonly<Record<string, Node>>,
  options: LoweringOptions = {},
  weights: LoweredWeights = {},
): LoweredGraph {
  const nodes = Object.values(outputs);
  const order = reachable(nodes.map(memoryOf));
  const lowering = new Lowering(rules, nodes, options, { ...weights, int8: int8Weights(order, weights.int8) }, (uses) =>
    winogradWeights(order, uses, options.arrangeable),
  );
  const inputs: string[] = [];
  for (const node of lowering.order) {
    if (node.op === "input") {
      const name = node.attributes.name;
      inputs.push(name);
      const shape = lowering.arranged.has(name) ? winogradShape(node.shape) : node.shape;
      lowering.graph.input(name, node.dtype, shape);
    }
    lowering.lower(node);
  }
  const declared = new Set<string>();
  const lowered: Record<string, LoweredOutput> = {};
  for (const [name, node] of Object.entries(outputs)) {
    if (options.named) {
      const shape = lowering.graph.target(node.shape);
      lowering.graph.node("Reshape", [lowering.value(memoryOf(node)), shape], {}, [true], name);
      lowering.graph.output(name, node.dtype, node.shape);
      lowered[name] = { value: name, shape: node.shape };
      continue;
    }
    // A Reshape before a graph output would cost a copy: the caller relabels instead.
    const source = memoryOf(node);
    const isComputed = source.op !== "input" && source.op !== "constant";
    const value = isComputed
      ? lowering.value(source)
      : (lowering.graph.node("Identity", [lowering.value(source)])[0] ?? "");
    if (!declared.has(value))
      lowering.graph.output(value, source.dtype, lowering.rawShapes.get(source) ?? source.shape);
    declared.add(value);
    lowered[name] = { value, shape: node.shape };
  }
  return { graph: lowering.graph, inputs, outputs: lowered, arranged: lowering.arranged };
}

/** The inputs that only Winograd convolutions read, as their weights. */
function winogradWeights(
  nodes: readonly Node[],
  uses: ReadonlyMap<Node, number>,
  inputs: ReadonlySet<string> = new Set(),
): ReadonlySet<string> {
  const convolutions = nodes.filter(isWinogradConvolution);
  const counts = new Map<Node, number>();
  for (const { inputs: operands } of convolutions) counts.set(operands[1], (counts.get(operands[1]) ?? 0) + 1);
  const names = [...counts].flatMap(([weight, count]) =>
    weight.op === "input" && inputs.has(weight.attributes.name) && count === uses.get(weight)
      ? [weight.attributes.name]
      : [],
  );
  return new Set(names);
}

/** The weights with ranges that only 8-bit operations read. */
function int8Weights(
  nodes: readonly Node[],
  ranges: LoweredWeights["int8"] = new Map(),
): NonNullable<LoweredWeights["int8"]> {
  const others = new Set<Node>(nodes.filter((node) => !isInt8(node)).flatMap(({ inputs }) => inputs));
  return new Map([...ranges].filter(([weight]) => !others.has(weight)));
}

/** The operator of the same meaning on all operands. */
const same =
  (op: string) =>
  (l: Lowering, node: Node): string =>
    l.emit(
      op,
      node.inputs.map((input) => l.value(input)),
    );

/** From this many elements on a row is summed in two stages: onnxruntime adds up a long row in float32 one by one. */
const LONG_ROW = 2 ** 14;
/** Parts of a long row: chosen, so that the errors of both stages are alike. */
const MOST_PARTS = 256;

const reduce =
  (op: string) =>
  (l: Lowering, node: OneOf<"sum" | "mean">): string => {
    const { axes, keepDims } = node.attributes;
    const { shape } = node.inputs[0];
    const leading = shape.slice(0, shape.length - axes.length);
    const row = sizeOf(shape.slice(leading.length));
    const isLong = row >= LONG_ROW && !l.graph.isOpen(row) && axes.every((axis) => axis >= leading.length);
    const parts = isLong ? largestDivisor(row, MOST_PARTS) : 1;
    // Only ReduceSum takes its axes as an input in opset 17.
    const over = (value: string, along: readonly number[], keepdims: number): string =>
      op === "ReduceSum"
        ? l.emit(op, [value, l.graph.integers(along)], { keepdims })
        : l.emit(op, [value], { axes: along, keepdims });
    const keepdims = keepDims ? 1 : 0;
    if (parts === 1) return over(l.in(node, 0), axes, keepdims);
    const pieces = l.reshape(l.in(node, 0), [sizeOf(leading) * parts, row / parts]);
    const rows = l.reshape(over(pieces, [1], 0), [...leading, parts, ...axes.slice(1).map(() => 1)]);
    return over(rows, axes, keepdims);
  };

/**
 * Largest elements, or NaN where one is: onnxruntime's maxima pass over a NaN. `add` sums the same elements as `most` compares;
 * of those below zero alone the sum is NaN where an element is, and only there.
 */
function largestOrNaN(l: Lowering, node: Node, most: string, add: (negative: string) => string): string {
  const sum = add(l.emit("Min", [l.in(node, 0), l.scalar(0)]));
  return l.emit("Where", [l.emit("Equal", [sum, sum]), most, sum]);
}

/** Largest divisor up to a limit. */
function largestDivisor(n: number, limit: number): number {
  let divisor = limit;
  while (n % divisor !== 0) divisor--;
  return divisor;
}

const poolAttributes = ({
  attributes: { k },
}: OneOf<"avgPool2d" | "maxPool2d">): Readonly<Record<string, AttributeValue>> => ({
  kernel_shape: [k, k],
  strides: [k, k],
});

const rules: LoweringRules = {
  ...forElementwise((_, { onnx }) => same(onnx)),

  input: (_l, node) => node.attributes.name,
  constant(l, node) {
    const { shape, data } = node;
    if (l.int8.has(node)) return ""; // stored where it is used
    const isStoredInHalf = l.float16 && l.weightNames.has(node) && data.byteLength >= EXTERNAL_FROM_BYTES;
    if (!isStoredInHalf || !(data instanceof Float32Array)) return l.graph.initializer(shape, data);
    return l.emit("Cast", [l.halfConstant(node)], { to: ELEMENT_TYPE.float32 });
  },
  sin: (l, node) => (l.webgpu ? sine(arithmetic(l), l.in(node, 0)) : same("Sin")(l, node)),
  cos: (l, node) => (l.webgpu ? cosine(arithmetic(l), l.in(node, 0)) : same("Cos")(l, node)),
  relu(l, node) {
    const [x] = node.inputs;
    const ranges = x.op === "conv2d" ? l.int8.get(x.inputs[1]) : undefined;
    if (!ranges || !l.isFollowedByRelu(x)) {
      // WebGPU's Relu makes 0 of NaN; its Max does not.
      return l.webgpu ? l.emit("Max", [l.in(node, 0), l.scalar(0)]) : same("Relu")(l, node);
    }
    return eightBits(l, same("Relu")(l, node), [0, ranges.output[1]]);
  },
  add(l, node) {
    const product = biasedProduct(node);
    if (!product || !l.isAbsorbed(product)) return same("Add")(l, node);
    const ranges = l.int8.get(product.inputs[1]);
    if (ranges) return l.emit("Add", [int8Product(l, product, ranges), l.in(node, 1)]);
    return l.emit("Gemm", [l.in(product, 0), l.in(product, 1), l.in(node, 1)], transposes(product));
  },
  mul(l, node) {
    const parts = geluParts(node);
    if (!parts?.every((part) => l.isAbsorbed(part))) return same("Mul")(l, node);
    return l.emit("com.microsoft::Gelu", [l.in(node, 0)]);
  },
  pow: (l, node) => l.emit("Pow", [l.in(node, 0), l.scalar(node.attributes.exponent)]),
  sum: reduce("ReduceSum"),
  mean: reduce("ReduceMean"),
  max(l, node) {
    const { axes } = node.attributes;
    const keepdims = node.attributes.keepDims ? 1 : 0;
    const most = l.emit("ReduceMax", [l.in(node, 0)], { axes, keepdims });
    return largestOrNaN(l, node, most, (value) => l.emit("ReduceSum", [value, l.graph.integers(axes)], { keepdims }));
  },
  argMax: (l, node) =>
    l.emit("Cast", [l.emit("ArgMax", [l.in(node, 0)], { axis: node.attributes.axis, keepdims: 0 })], {
      to: ELEMENT_TYPE.int32,
    }),
  softmax: (l, node) => l.emit("Softmax", [l.in(node, 0)], { axis: node.attributes.axis }),

  matmul(l, node) {
    const ranges = l.int8.get(node.inputs[1]);
    if (ranges) return int8Product(l, node, ranges);
    const [a, b] = node.inputs;
    if (a.shape.length === 2 && b.shape.length === 2) {
      return l.emit("Gemm", [l.in(node, 0), l.in(node, 1)], transposes(node));
    }
    const exchanged = (operand: Node, wanted: boolean): string => {
      const rank = operand.shape.length;
      const perm = Array.from({ length: rank }, (_, i) => (i === rank - 2 ? rank - 1 : i === rank - 1 ? rank - 2 : i));
      return wanted ? l.emit("Transpose", [l.value(operand)], { perm }) : l.value(operand);
    };
    return l.emit("MatMul", [exchanged(a, node.attributes.transposeA), exchanged(b, node.attributes.transposeB)]);
  },
  conv2d: convolution,
  conv2dInputGrad: inputGradient,
  conv2dWeightGrad: weightGradient,
  avgPool2d: (l, node) => l.emit("AveragePool", [l.in(node, 0)], poolAttributes(node)),
  maxPool2d(l, node) {
    const pooled = (op: string, value: string): string => l.emit(op, [value], poolAttributes(node));
    return largestOrNaN(l, node, pooled("MaxPool", l.in(node, 0)), (value) => pooled("AveragePool", value));
  },
  resizeNearest(l, node) {
    const [, , oldHeight = 1, oldWidth = 1] = node.inputs[0].shape;
    const [, , height = 1, width = 1] = node.shape;
    if (height % oldHeight === 0 && width % oldWidth === 0) {
      const scales = [1, 1, height / oldHeight, width / oldWidth];
      return l.emit(
        "Resize",
        [l.in(node, 0), "", l.graph.shared(`f4,${scales.join()}`, [4], () => Float32Array.from(scales))],
        {
          mode: "nearest",
          coordinate_transformation_mode: "asymmetric",
          nearest_mode: "floor",
        },
      );
    }
    if ([oldHeight, oldWidth, height, width].some((size) => l.graph.isOpen(size))) {
      throw new InvalidArgumentError(
        "exportOnnx: an image of an open size is resized by a factor that is no whole number. Give height and width, or multiples of them.",
      );
    }
    // Uneven factors by exact indices: Resize computes them in floating point, which may round to a neighbour.
    const indices = (from: number, to: number): string =>
      l.graph.integers(Array.from({ length: to }, (_, i) => Math.floor((i * from) / to)));
    const rows = l.emit("Gather", [l.in(node, 0), indices(oldHeight, height)], { axis: 2 });
    return l.emit("Gather", [rows, indices(oldWidth, width)], { axis: 3 });
  },

  reshape: (l, node) => l.emit("Reshape", [l.in(node, 0), l.graph.target(node.shape)]),
  transpose: (l, node) => l.emit("Transpose", [l.in(node, 0)], { perm: node.attributes.permutation }),
  broadcastTo: (l, node) => l.emit("Expand", [l.in(node, 0), l.graph.integers(node.shape)]),
  concat: (l, node) =>
    l.emit(
      "Concat",
      node.inputs.map((input) => l.value(input)),
      { axis: node.attributes.axis },
    ),
  slice(l, node) {
    const { axis, begin, size } = node.attributes;
    const bounds = [[begin], [begin + size], [axis]].map((values) => l.graph.integers(values));
    return l.emit("Slice", [l.in(node, 0), ...bounds]);
  },
  pad(l, node) {
    const { widths } = node.attributes;
    const pads = [...widths.map(([before]) => before), ...widths.map(([, after]) => after)];
    return l.emit("Pad", [l.in(node, 0), l.graph.integers(pads)]);
  },
  gather: (l, node) => l.emit("Gather", [l.in(node, 0), l.in(node, 1)], { axis: node.attributes.axis }),
  cast: (l, node) => l.emit("Cast", [l.in(node, 0)], { to: ELEMENT_TYPE[node.dtype] }),
  stopGradient: (l, node) => l.in(node, 0),
  variable: (l, node) => l.in(node, 0),

  normalize(l, node) {
    const size = node.shape.at(-1) ?? 1;
    const needsStd = l.order.some((other) => other.op === "inverseStd" && other.inputs[0] === node);
    const [y = "", , inverseStd = ""] = l.graph.node(
      "LayerNormalization",
      [l.in(node, 0), l.ones(size)],
      { axis: -1, epsilon: { float: node.attributes.epsilon } },
      needsStd ? [true, true, true] : [true],
    );
    l.inverseStds.set(node, inverseStd);
    return y;
  },
  inverseStd: (l, node) => l.inverseStds.get(node.inputs[0]) ?? "",
};

/** Operators on named values, for compositions of several. */
function arithmetic(l: Lowering): SineOps<string> {
  const value = (x: Operand<string>): string => (typeof x === "number" ? l.scalar(x) : x);
  const binary =
    (op: string) =>
    (a: Operand<string>, b: Operand<string>): string =>
      l.emit(op, [value(a), value(b)]);
  return { add: binary("Add"), sub: binary("Sub"), mul: binary("Mul"), floor: (x) => l.emit("Floor", [x]) };
}

function transposes(product: NodeOf<"matmul">): Record<string, number> {
  return { transA: product.attributes.transposeA ? 1 : 0, transB: product.attributes.transposeB ? 1 : 0 };
}
