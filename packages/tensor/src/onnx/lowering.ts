import { SdxsError } from "../core/errors.js";
import type { Shape } from "../core/host-tensor.js";
import type { WeightRanges } from "../core/program.js";
import { computesInFloat16, recordedFloat16 } from "../graph/half-precision.js";
import { memoryOf, reachable, type Node, type NodeOf, type OpName } from "../graph/node.js";
import { encodeFloat16, encodeFloat16Checked } from "../weights/half.js";
import { ELEMENT_TYPE, OnnxGraph, type AttributeValue } from "./model.js";
import type { OpenSizes } from "./open-sizes.js";

export interface LoweringOptions {
  /** The graph's outputs bear the program's names and shapes, as readers of a file expect, which costs copies. */
  readonly named?: boolean;
  /** Channels per block where onnxruntime's blocked convolution may be used, see `channelBlock`. Default 0: not. */
  readonly channelBlock?: number;
  /** Inputs that the caller can transform once by `winogradWeight`, where the graph asks for it. Default: none. */
  readonly arrangeable?: ReadonlySet<string> | undefined;
  /** Avoid operators that onnxruntime's WebGPU provider computes wrongly or imprecisely. Default false. */
  readonly webgpu?: boolean;
  /** See `CompileSpec.precision`. Default "float32". */
  readonly precision?: "float32" | "float16" | undefined;
  /** Open sizes and the numbers that stand for them. Default: none. */
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

/** Writes each operation, and returns the name of the ONNX value that holds its result. */
export type LoweringRules = { readonly [Op in OpName]: (l: Lowering, node: NodeOf<Op>) => string };

/** An ONNX graph under construction: the operators so far, and the state of the recorded nodes. */
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
    private readonly rules: LoweringRules,
    outputs: readonly Node[],
    { named = false, channelBlock = 0, webgpu = false, precision = "float32", openSizes }: LoweringOptions,
    { names = new Map(), float16 = false, int8 = new Map() }: LoweredWeights,
    arranged: (uses: ReadonlyMap<Node, number>) => ReadonlySet<string>,
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
    this.arranged = arranged(this.uses);
    for (const node of this.order) for (const input of node.inputs) this.followers.set(input, node);
    this.int8 = int8;
    this.leaves = new Set(roots.filter((root) => this.useCount(root) === 1));
  }

  /** Results that nothing but one output uses. */
  readonly leaves: ReadonlySet<Node>;

  useCount(node: Node): number {
    return this.uses.get(node) ?? 0;
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
  private constant(node: NodeOf<"constant">): string {
    const key = `constant ${node.id} ${this.half}`;
    let value = this.conversions.get(key);
    if (value === undefined) {
      value = this.half ? this.halfConstant(node) : this.rules.constant(this, node);
      this.conversions.set(key, value);
    }
    return value;
  }

  halfConstant(node: NodeOf<"constant">): string {
    const name = this.weightNames.get(node) ?? "of the program's own";
    const data = encodeFloat16Checked(`float16: the weight "${name}"`, node.data as Float32Array);
    return this.graph.initializer(node.shape, data);
  }

  lower(node: Node): void {
    if (this.absorbed.has(node) || (this.mixed && node.op === "constant" && node.dtype === "float32")) return;
    this.half =
      this.mixed &&
      (this.isBiasedProduct(node) || computesInFloat16(recordedFloat16, node, (other) => this.halves.has(other)));
    const value = (this.rules[node.op] as (l: Lowering, node: Node) => string)(this, node);
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
    return this.value(node.inputs[index]!);
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
export function biasedProduct(node: Node): NodeOf<"matmul"> | undefined {
  if (node.op !== "add") return undefined;
  const [product, bias] = node.inputs;
  if (product.op !== "matmul" || bias.op === "matmul") return undefined;
  const fits = product.shape.length === 2 && bias.shape.length === 1 && bias.shape[0] === product.shape[1];
  return fits ? product : undefined;
}

/** What x Phi(x) = x * ((erf(x / sqrt 2) + 1) / 2) is made of, but for x: one Gelu. */
export function geluParts(node: Node): Node[] | undefined {
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
  return node?.op === "constant" && node.data.length === 1 ? node.data[0] : undefined;
}
