import { InvalidArgumentError, SdxsError } from "../core/errors.js";
import { sizeOf, type Shape } from "../core/host-tensor.js";
import type { WeightRanges } from "../core/program.js";
import { memoryOf, reachable, type Node, type OpName } from "../graph/node.js";
import type { Operand } from "../core/ops.js";
import { cosine, sine, type SineOps } from "../core/sine.js";
import { encodeFloat16, encodeFloat16Checked } from "../weights/half.js";
import type { OpenSizes } from "./open-sizes.js";
import { ELEMENT_TYPE, EXTERNAL_FROM_BYTES, OnnxGraph, type AttributeValue } from "./model.js";
import { computesInHalf } from "../graph/half-precision.js";
import { eightBits, int8Convolution, int8Product, isInt8 } from "./int8.js";
import { isWinogradConvolution, winogradConvolution, winogradShape } from "./winograd.js";

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
  /** Inputs of the options' `arrangeable` that the graph takes as `winogradWeight` gives them. */
  readonly arranged: ReadonlySet<string>;
}

export interface LoweringOptions {
  /** The graph's outputs bear the program's names and shapes, as readers of a file expect, which costs copies. */
  readonly named?: boolean;
  /** Channels per block where onnxruntime's blocked convolution may be used, see `channelBlock`. Default 0: not. */
  readonly channelBlock?: number;
  /** Inputs that the caller can transform once by `winogradWeight`, where the graph asks for it. Default: none. */
  readonly arrangeable?: ReadonlySet<string> | undefined;
  /** Go round what onnxruntime's WebGPU provider computes wrongly or imprecisely. Default false. */
  readonly webgpu?: boolean;
  /** See `CompileSpec.precision`. Default "float32". */
  readonly precision?: "float32" | "float16" | undefined;
  /** What some sizes stand for. Default: each for itself. */
  readonly openSizes?: OpenSizes;
}

/** How weights are stored, by their constants. */
export interface LoweredWeights {
  readonly names?: ReadonlyMap<Node, string>;
  /** Those with names as float16, and computed with as float32. Default false. */
  readonly float16?: boolean;
  /** As int8 and computed with so, where nothing else uses them. */
  readonly int8?: ReadonlyMap<Node, WeightRanges>;
}

/** Writes what the outputs depend on as ONNX operators: standard ones only, unless `channelBlock` is given. */
export function lower(
  outputs: Readonly<Record<string, Node>>,
  options: LoweringOptions = {},
  weights: LoweredWeights = {},
): LoweredGraph {
  const lowering = new Lowering(Object.values(outputs), options, weights);
  const inputs: string[] = [];
  for (const node of lowering.order) {
    if (node.op === "input") {
      const name = node.attributes.name ?? "";
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

type Rule = (lowering: Lowering, node: Node) => string;

export class Lowering {
  readonly graph: OnnxGraph;
  readonly order: readonly Node[];
  private readonly values = new Map<Node, string>();
  private readonly uses = new Map<Node, number>();
  /** The third result of a normalisation, by its node. */
  readonly inverseStds = new Map<Node, string>();
  /** Shapes of ONNX values that leave the graph without the Reshape that would end their rule. */
  readonly rawShapes = new Map<Node, Shape>();
  /** Nodes that are written together with the one that follows them. */
  private readonly absorbed = new Set<Node>();
  readonly channelBlock: number;
  readonly webgpu: boolean;
  readonly arranged: ReadonlySet<string>;
  readonly weightNames: ReadonlyMap<Node, string>;
  readonly float16: boolean;
  readonly int8: ReadonlyMap<Node, WeightRanges>;
  /** Values that stand for 8 bits, and those by what they were rounded from. */
  readonly rounded = new Set<string>();
  readonly roundings = new Map<string, string>();
  private readonly followers = new Map<Node, Node>();
  /** Some operations compute in float16. */
  private readonly mixed: boolean;
  /** Whether the rule under way does. */
  private half = false;
  /** Nodes whose value is float16, and values by what they were converted from. */
  private readonly halves = new Set<Node>();
  private readonly conversions = new Map<string, string>();

  constructor(
    outputs: readonly Node[],
    {
      named = false,
      channelBlock = 0,
      webgpu = false,
      arrangeable = new Set(),
      precision = "float32",
      openSizes,
    }: LoweringOptions,
    { names = new Map(), float16 = false, int8 = new Map() }: LoweredWeights,
  ) {
    this.graph = new OnnxGraph(openSizes);
    this.mixed = precision === "float16";
    this.weightNames = names;
    this.float16 = float16;
    this.channelBlock = channelBlock;
    this.webgpu = webgpu;
    const roots = outputs.map(memoryOf);
    this.order = reachable(roots);
    for (const node of this.order) for (const input of node.inputs) this.uses.set(input, this.useCount(input) + 1);
    for (const root of roots) this.uses.set(root, this.useCount(root) + 1);
    for (const node of this.order) {
      const product = biasedProduct(node);
      if (product && this.useCount(product) === 1) this.absorbed.add(product);
      const parts = named ? undefined : geluParts(node);
      if (parts?.every((part) => this.useCount(part) === 1)) for (const part of parts) this.absorbed.add(part);
    }
    this.arranged = this.winogradWeights(arrangeable);
    for (const node of this.order) for (const input of node.inputs) this.followers.set(input, node);
    const others = new Set(this.order.filter((node) => !isInt8(node)).flatMap(({ inputs }) => inputs));
    this.int8 = new Map([...int8].filter(([weight]) => !others.has(weight)));
    this.leaves = new Set(roots.filter((root) => this.useCount(root) === 1));
  }

  /** Results that nothing but one output uses. */
  readonly leaves: ReadonlySet<Node>;

  useCount(node: Node): number {
    return this.uses.get(node) ?? 0;
  }

  /** Those of the inputs that are the weights of Winograd's convolutions and of nothing else. */
  private winogradWeights(inputs: ReadonlySet<string>): ReadonlySet<string> {
    const convolutions = this.order.filter(isWinogradConvolution);
    const weights = new Set(convolutions.map((node) => operand(node, 1)));
    const arranged = [...weights].filter(
      (weight) =>
        inputs.has(weight.attributes.name ?? "") &&
        convolutions.filter((node) => operand(node, 1) === weight).length === this.useCount(weight),
    );
    return new Set(arranged.map(({ attributes }) => attributes.name ?? ""));
  }

  isFollowedByRelu(node: Node): boolean {
    return this.useCount(node) === 1 && this.followers.get(node)?.op === "relu";
  }

  isAbsorbed(node: Node): boolean {
    return this.absorbed.has(node);
  }

  /** In the precision of the rule under way. */
  value(node: Node): string {
    if (this.mixed && node.op === "constant" && node.dtype === "float32") return this.constant(node);
    const value = this.values.get(node);
    if (value === undefined)
      throw new SdxsError("UNSUPPORTED_OPERATION", `The operation "${node.op}" was not lowered.`);
    if (node.dtype !== "float32" || this.halves.has(node) === this.half) return value;
    return this.converted(value, this.half ? "float16" : "float32");
  }

  private converted(value: string, to: "float32" | "float16"): string {
    let result = this.conversions.get(value);
    if (result === undefined) {
      result = this.emit("Cast", [value], { to: ELEMENT_TYPE[to] });
      this.conversions.set(value, result);
    }
    return result;
  }

  /** A constant in the precision of the rule under way, in each of both at most once. */
  private constant(node: Node): string {
    const key = `constant ${node.id} ${this.half}`;
    let value = this.conversions.get(key);
    if (value === undefined) {
      value = this.half ? this.halfConstant(node) : rules.constant(this, node);
      this.conversions.set(key, value);
    }
    return value;
  }

  halfConstant(node: Node): string {
    const name = this.weightNames.get(node) ?? "of the program's own";
    const data = encodeFloat16Checked(`float16: the weight "${name}"`, node.data as Float32Array);
    return this.graph.initializer(node.shape, data);
  }

  lower(node: Node): void {
    if (this.absorbed.has(node) || (this.mixed && node.op === "constant" && node.dtype === "float32")) return;
    this.half = this.mixed && (this.isBiasedProduct(node) || computesInHalf(node, (other) => this.halves.has(other)));
    const value = rules[node.op](this, node);
    this.values.set(node, value);
    if (this.half) this.halves.add(node);
    this.half = false;
    if (node.op === "softmax" && this.isHalf(node.inputs[0])) this.narrow(node, value);
  }

  private isHalf(node: Node | undefined): boolean {
    return node !== undefined && this.halves.has(node);
  }

  private isBiasedProduct(node: Node): boolean {
    const product = biasedProduct(node);
    return product !== undefined && this.absorbed.has(product);
  }

  /** What was computed in float32 is float16 from here on. */
  private narrow(node: Node, value: string): void {
    this.values.set(node, this.converted(value, "float16"));
    this.halves.add(node);
  }

  /** The operand's value. */
  in(node: Node, index: number): string {
    return this.value(operand(node, index));
  }

  /** One operator whose result has to be reshaped to the node's shape, unless it leaves the graph at once. */
  emitRaw(
    node: Node,
    op: string,
    inputs: readonly string[],
    attributes: Readonly<Record<string, AttributeValue>>,
    shape: Shape,
  ): string {
    const value = this.emit(op, inputs, attributes);
    if (!this.leaves.has(node)) return this.reshape(value, node.shape);
    this.rawShapes.set(node, shape);
    return value;
  }

  /** One operator with one output. */
  emit(op: string, inputs: readonly string[], attributes: Readonly<Record<string, AttributeValue>> = {}): string {
    return this.graph.node(op, inputs, attributes)[0] ?? "";
  }

  /** A constant of shape [], in the precision of the rule under way. */
  scalar(value: number): string {
    const data = Float32Array.of(value);
    if (this.half) return this.graph.shared(`h${value}`, [], () => encodeFloat16(data));
    return this.graph.shared(`f${value}`, [], () => data);
  }

  /** [size] of ones, likewise. */
  ones(size: number): string {
    if (this.graph.isOpen(size)) return this.emit("Expand", [this.scalar(1), this.graph.integers([size])]);
    const data = new Float32Array(size).fill(1);
    return this.graph.shared(`${this.half ? "half" : ""} ones ${size}`, [size], () =>
      this.half ? encodeFloat16(data) : data,
    );
  }

  reshape(value: string, shape: Shape): string {
    return this.emit("Reshape", [value, this.graph.target(shape)]);
  }
}

/** The product of two matrices under an addition of a bias vector: one Gemm. */
function biasedProduct(node: Node): Node | undefined {
  const [product, bias] = node.inputs;
  if (node.op !== "add" || product?.op !== "matmul" || !bias || bias.op === "matmul") return undefined;
  const fits = product.shape.length === 2 && bias.shape.length === 1 && bias.shape[0] === product.shape[1];
  return fits ? product : undefined;
}

/** What x Phi(x) = x * ((erf(x / sqrt 2) + 1) / 2) is made of, but for x: one Gelu. */
function geluParts(node: Node): Node[] | undefined {
  const [x, share] = node.inputs;
  const [sum, half] = share?.inputs ?? [];
  const [erf, one] = sum?.inputs ?? [];
  const [scaled] = erf?.inputs ?? [];
  const [y, root] = scaled?.inputs ?? [];
  const isGelu =
    [node, share, sum, erf, scaled].map((part) => part?.op).join() === "mul,mul,add,erf,mul" &&
    x === y &&
    constantOf(half) === 0.5 &&
    constantOf(one) === 1 &&
    constantOf(root) === Math.fround(Math.SQRT1_2);
  return isGelu ? [share!, sum!, erf!, scaled!] : undefined;
}

/** The value of a constant of one element. */
function constantOf(node: Node | undefined): number | undefined {
  return node?.op === "constant" && node.data?.length === 1 ? node.data[0] : undefined;
}

function operand(node: Node, index: number): Node {
  const input = node.inputs[index];
  if (!input) throw new SdxsError("UNSUPPORTED_OPERATION", `The operation "${node.op}" lacks operand ${index}.`);
  return input;
}

/** The operator of the same meaning on all operands. */
const same =
  (op: string): Rule =>
  (l, node) =>
    l.emit(
      op,
      node.inputs.map((input) => l.value(input)),
    );

/** From this many elements on a row is summed in two stages: onnxruntime adds up a long row in float32 one by one. */
const LONG_ROW = 2 ** 14;
/** Parts of a long row: chosen, so that the errors of both stages are alike. */
const MOST_PARTS = 256;

const reduce =
  (op: string): Rule =>
  (l, node) => {
    const { axes = [], keepDims } = node.attributes;
    const { shape } = operand(node, 0);
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

const poolAttributes = ({ attributes: { k = 1 } }: Node): Readonly<Record<string, AttributeValue>> => ({
  kernel_shape: [k, k],
  strides: [k, k],
});

const rules: Readonly<Record<OpName, Rule>> = {
  input: (_l, node) => node.attributes.name ?? "",
  constant(l, node) {
    const { shape, data = new Float32Array(0) } = node;
    if (l.int8.has(node)) return ""; // stored where it is used
    const isStoredInHalf = l.float16 && l.weightNames.has(node) && data.byteLength >= EXTERNAL_FROM_BYTES;
    if (!isStoredInHalf || !(data instanceof Float32Array)) return l.graph.initializer(shape, data);
    return l.emit("Cast", [l.halfConstant(node)], { to: ELEMENT_TYPE.float32 });
  },
  neg: same("Neg"),
  abs: same("Abs"),
  sign: same("Sign"),
  exp: same("Exp"),
  log: same("Log"),
  sqrt: same("Sqrt"),
  sin: (l, node) => (l.webgpu ? sine(arithmetic(l), l.in(node, 0)) : same("Sin")(l, node)),
  cos: (l, node) => (l.webgpu ? cosine(arithmetic(l), l.in(node, 0)) : same("Cos")(l, node)),
  tanh: same("Tanh"),
  sigmoid: same("Sigmoid"),
  relu(l, node) {
    const convolution = operand(node, 0);
    const ranges = convolution.op === "conv2d" ? l.int8.get(operand(convolution, 1)) : undefined;
    if (!ranges || !l.isFollowedByRelu(convolution)) {
      // WebGPU's Relu makes 0 of NaN; its Max does not.
      return l.webgpu ? l.emit("Max", [l.in(node, 0), l.scalar(0)]) : same("Relu")(l, node);
    }
    return eightBits(l, same("Relu")(l, node), [0, ranges.output[1]]);
  },
  erf: same("Erf"),
  floor: same("Floor"),
  add(l, node) {
    const product = biasedProduct(node);
    if (!product || !l.isAbsorbed(product)) return same("Add")(l, node);
    const ranges = l.int8.get(operand(product, 1));
    if (ranges) return l.emit("Add", [int8Product(l, product, ranges), l.in(node, 1)]);
    return l.emit("Gemm", [l.in(product, 0), l.in(product, 1), l.in(node, 1)], transposes(product));
  },
  sub: same("Sub"),
  mul(l, node) {
    const parts = geluParts(node);
    if (!parts?.every((part) => l.isAbsorbed(part))) return same("Mul")(l, node);
    return l.emit("com.microsoft::Gelu", [l.in(node, 0)]);
  },
  div: same("Div"),
  pow: (l, node) => l.emit("Pow", [l.in(node, 0), l.scalar(node.attributes.exponent ?? 1)]),
  maximum: same("Max"),
  minimum: same("Min"),
  equal: same("Equal"),
  greater: same("Greater"),
  less: same("Less"),
  where: same("Where"),
  sum: reduce("ReduceSum"),
  mean: reduce("ReduceMean"),
  max(l, node) {
    const { axes = [], keepDims } = node.attributes;
    const keepdims = keepDims ? 1 : 0;
    const most = l.emit("ReduceMax", [l.in(node, 0)], { axes, keepdims });
    return largestOrNaN(l, node, most, (value) => l.emit("ReduceSum", [value, l.graph.integers(axes)], { keepdims }));
  },
  argMax: (l, node) =>
    l.emit("Cast", [l.emit("ArgMax", [l.in(node, 0)], { axis: node.attributes.axis ?? 0, keepdims: 0 })], {
      to: ELEMENT_TYPE.int32,
    }),
  softmax: (l, node) => l.emit("Softmax", [l.in(node, 0)], { axis: node.attributes.axis ?? -1 }),

  matmul(l, node) {
    const ranges = l.int8.get(operand(node, 1));
    if (ranges) return int8Product(l, node, ranges);
    if (operand(node, 0).shape.length === 2 && operand(node, 1).shape.length === 2) {
      return l.emit("Gemm", [l.in(node, 0), l.in(node, 1)], transposes(node));
    }
    const exchanged = (index: number, wanted = false): string => {
      const rank = operand(node, index).shape.length;
      const perm = Array.from({ length: rank }, (_, i) => (i === rank - 2 ? rank - 1 : i === rank - 1 ? rank - 2 : i));
      return wanted ? l.emit("Transpose", [l.in(node, index)], { perm }) : l.in(node, index);
    };
    return l.emit("MatMul", [exchanged(0, node.attributes.transposeA), exchanged(1, node.attributes.transposeB)]);
  },
  conv2d(l, node) {
    const weight = operand(node, 1);
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
  },
  conv2dInputGrad: inputGradient,
  conv2dWeightGrad: weightGradient,
  avgPool2d: (l, node) => l.emit("AveragePool", [l.in(node, 0)], poolAttributes(node)),
  maxPool2d(l, node) {
    const pooled = (op: string, value: string): string => l.emit(op, [value], poolAttributes(node));
    return largestOrNaN(l, node, pooled("MaxPool", l.in(node, 0)), (value) => pooled("AveragePool", value));
  },
  resizeNearest(l, node) {
    const [, , oldHeight = 1, oldWidth = 1] = operand(node, 0).shape;
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
  transpose: (l, node) => l.emit("Transpose", [l.in(node, 0)], { perm: node.attributes.permutation ?? [] }),
  broadcastTo: (l, node) => l.emit("Expand", [l.in(node, 0), l.graph.integers(node.shape)]),
  concat: (l, node) =>
    l.emit(
      "Concat",
      node.inputs.map((input) => l.value(input)),
      { axis: node.attributes.axis ?? 0 },
    ),
  slice(l, node) {
    const { axis = 0, begin = 0 } = node.attributes;
    const bounds = [[begin], [begin + (node.shape[axis] ?? 0)], [axis]].map((values) => l.graph.integers(values));
    return l.emit("Slice", [l.in(node, 0), ...bounds]);
  },
  pad(l, node) {
    const widths = node.attributes.widths ?? [];
    const pads = [...widths.map(([before]) => before), ...widths.map(([, after]) => after)];
    return l.emit("Pad", [l.in(node, 0), l.graph.integers(pads)]);
  },
  gather: (l, node) => l.emit("Gather", [l.in(node, 0), l.in(node, 1)], { axis: node.attributes.axis ?? 0 }),
  cast: (l, node) => l.emit("Cast", [l.in(node, 0)], { to: ELEMENT_TYPE[node.dtype] }),
  stopGradient: (l, node) => l.in(node, 0),
  variable: (l, node) => l.in(node, 0),

  normalize(l, node) {
    const size = node.shape.at(-1) ?? 1;
    const needsStd = l.order.some((other) => other.op === "inverseStd" && other.inputs[0] === node);
    const [y = "", , inverseStd = ""] = l.graph.node(
      "LayerNormalization",
      [l.in(node, 0), l.ones(size)],
      { axis: -1, epsilon: { float: node.attributes.epsilon ?? 1e-5 } },
      needsStd ? [true, true, true] : [true],
    );
    l.inverseStds.set(node, inverseStd);
    return y;
  },
  inverseStd: (l, node) => l.inverseStds.get(operand(node, 0)) ?? "",
};

/** Operators on named values, for what is composed of several. */
function arithmetic(l: Lowering): SineOps<string> {
  const value = (x: Operand<string>): string => (typeof x === "number" ? l.scalar(x) : x);
  const binary =
    (op: string) =>
    (a: Operand<string>, b: Operand<string>): string =>
      l.emit(op, [value(a), value(b)]);
  return { add: binary("Add"), sub: binary("Sub"), mul: binary("Mul"), floor: (x) => l.emit("Floor", [x]) };
}

function transposes(product: Node): Record<string, number> {
  return { transA: product.attributes.transposeA ? 1 : 0, transB: product.attributes.transposeB ? 1 : 0 };
}

function convAttributes(node: Node, weight: Node): Record<string, AttributeValue> {
  const [top, bottom, left, right] = node.attributes.padding ?? [0, 0, 0, 0];
  const stride = node.attributes.stride ?? 1;
  return { kernel_shape: weight.shape.slice(2), strides: [stride, stride], pads: [top, left, bottom, right] };
}

/** The domain of the convolution into which onnxruntime turns those of constant weights on CPUs. */
const BLOCKED = "com.microsoft.nchwc";

/**
 * From this many pixels of results on, the blocked convolution saves more than arranging weights and images for it
 * costs; weights beyond the caches need the larger number. Measured, at 256 to 8,192 pixels and 64 to 1,280 channels.
 */
const BLOCKED_FROM_PIXELS = { small: 512, large: 4096 };
const LARGE_WEIGHT = 2 ** 20;

/** Constant weights are left to onnxruntime, which arranges them once. */
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
 * A convolution over images whose channels lie in blocks, [batch, channels / block, height, width, block], by weights
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
 * comes out behind all of the block's channels of the first pixel.
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
function inputGradient(l: Lowering, node: Node): string {
  const weight = operand(node, 1);
  const [outChannels = 1, inChannels = 1, kernelHeight = 1, kernelWidth = 1] = weight.shape;
  const [top, bottom, left, right] = node.attributes.padding ?? [0, 0, 0, 0];
  const stride = node.attributes.stride ?? 1;
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
  const [, , outHeight = 1, outWidth = 1] = operand(node, 0).shape;
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
function weightGradient(l: Lowering, node: Node): string {
  const [x, gradient] = [operand(node, 0), operand(node, 1)];
  const [batch = 1, inChannels = 1, height = 1, width = 1] = x.shape;
  const [, outChannels = 1, outHeight = 1, outWidth = 1] = gradient.shape;
  const [, , kernelHeight = 1, kernelWidth = 1] = node.shape;
  const [top, bottom, left, right] = node.attributes.padding ?? [0, 0, 0, 0];
  const stride = node.attributes.stride ?? 1;
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
