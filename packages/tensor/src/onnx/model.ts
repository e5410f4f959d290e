import { InvalidArgumentError } from "../core/errors.js";
import type { DType, HostData, Shape } from "../core/host-tensor.js";
import { openSizeName, type OpenSize, type OpenSizes } from "./open-sizes.js";
import { MessageWriter } from "./protobuf.js";

/** onnx.TensorProto.DataType */
export const ELEMENT_TYPE = { float32: 1, uint8: 2, int8: 3, int32: 6, int64: 7, bool: 9, float16: 10 } as const;

/** Largest protocol buffer that readers accept; above it weights must be in a separate file. */
const MAX_MODEL_BYTES = 2 ** 31 - 1;

/** Tensors from this size on go to the external file when one is written: chosen, so that small constants stay readable. */
export const EXTERNAL_FROM_BYTES = 1024;

/** The opset that every emitted operator belongs to: the first with LayerNormalization. */
const OPSET = 17;
/** onnx.IR_VERSION of the release that brought opset 17. */
const IR_VERSION = 8;

export type AttributeValue = number | string | readonly number[] | { readonly float: number };

/** Elements of an initializer; 16-bit ones are float16, unsigned bytes booleans, and numbers where they are clamped. */
type InitializerData =
  | HostData
  | BigInt64Array<ArrayBuffer>
  | Uint16Array<ArrayBuffer>
  | Int8Array<ArrayBuffer>
  | Uint8ClampedArray<ArrayBuffer>;

/** An ONNX graph under construction: nodes and initializers in the order of their addition. */
export class OnnxGraph {
  private readonly nodes: { message: MessageWriter; outputs: readonly string[] }[] = [];
  /** Values that some node reads. */
  private readonly read = new Set<string>();
  private readonly initializers: { name: string; shape: Shape; data: InitializerData }[] = [];
  private readonly inputs: MessageWriter[] = [];
  private readonly outputs: MessageWriter[] = [];
  private readonly constants = new Map<string, string>();
  private readonly domains = new Set<string>();
  private count = 0;
  /** Where an open size is to be read: an input and the axis. */
  private readonly sources = new Map<string, readonly [input: string, axis: number]>();

  /** @param openSizes what some sizes stand for. Default: none is open */
  constructor(private readonly openSizes?: OpenSizes) {}

  /**
   * Adds an operator and gives the names of its outputs ("" where `wanted` is false; `name` names the only one).
   * Operators that are not ONNX's own are named "domain::Operator".
   */
  node(
    op: string,
    inputs: readonly string[],
    attributes: Readonly<Record<string, AttributeValue>> = {},
    wanted: readonly boolean[] = [true],
    name?: string,
  ): string[] {
    const id = this.count++;
    const outputs = wanted.map((want, i) => (want ? (name ?? `_v${id}${i === 0 ? "" : `_${i}`}`) : ""));
    const message = new MessageWriter();
    for (const input of inputs) {
      message.text(1, input);
      if (input !== "") this.read.add(input); // "" leaves an optional one out
    }
    for (const output of outputs) message.text(2, output);
    const [type = op, domain] = op.split("::").reverse();
    message.text(3, `${type}_${id}`).text(4, type);
    for (const [name, value] of Object.entries(attributes)) message.message(5, attribute(name, value));
    if (domain !== undefined) {
      message.text(7, domain);
      this.domains.add(domain);
    }
    this.nodes.push({ message, outputs });
    return outputs;
  }

  initializer(shape: Shape, data: InitializerData, name = `_c${this.count++}`): string {
    this.initializers.push({ name, shape, data });
    return name;
  }

  /** An int64 vector, one for equal values; computed where one of them is an open size. */
  integers(values: readonly number[]): string {
    const key = `i${values.join()}`;
    let name = this.constants.get(key);
    if (name === undefined) {
      name = values.some((value) => this.isOpen(value))
        ? this.computedIntegers(values)
        : this.initializer([values.length], BigInt64Array.from(values, BigInt));
      this.constants.set(key, name);
    }
    return name;
  }

  /** A shape to reshape to: where one of its sizes is open, it follows from the others. */
  target(shape: Shape): string {
    const open = shape.filter((size) => this.isOpen(size));
    return this.integers(open.length === 1 ? shape.map((size) => (size === open[0] ? -1 : size)) : shape);
  }

  isOpen(size: number): boolean {
    return this.openSizes?.meaning(size) !== undefined;
  }

  private computedIntegers(values: readonly number[]): string {
    if (values.length > 1) {
      const parts = values.map((value) => this.integers([value]));
      return this.node("Concat", parts, { axis: 0 })[0]!;
    }
    const { names, factor, divisor } = this.openSizes!.meaning(values[0]!)!;
    const sizes = names.map((name) => this.openSize(name));
    if (factor !== 1) sizes.push(this.integers([factor]));
    const product = sizes.reduce((a, b) => this.node("Mul", [a, b])[0]!);
    return divisor === 1 ? product : this.node("Div", [product, this.integers([divisor])])[0]!;
  }

  private openSize(name: string): string {
    const key = `size ${name}`;
    const known = this.constants.get(key);
    if (known !== undefined) return known;
    const [input, axis] = this.sources.get(name) ?? [];
    if (input === undefined || axis === undefined) {
      throw new InvalidArgumentError(
        `exportOnnx: no input that the outputs depend on has the size "${name}". Give it a number.`,
      );
    }
    const [size = ""] = this.node("Shape", [input], { start: axis, end: axis + 1 });
    this.constants.set(key, size);
    return size;
  }

  /** A constant that `make` computes once per key. */
  shared(key: string, shape: Shape, make: () => InitializerData): string {
    let name = this.constants.get(key);
    if (name === undefined) {
      name = this.initializer(shape, make());
      this.constants.set(key, name);
    }
    return name;
  }

  input(name: string, dtype: DType, shape: Shape): void {
    this.inputs.push(this.valueInfo(name, dtype, shape));
    shape.forEach((size, axis) => {
      const meaning = this.openSizes?.meaning(size);
      if (meaning && isBare(meaning)) this.sources.set(meaning.names[0]!, [name, axis]);
    });
  }

  output(name: string, dtype: DType, shape: Shape): void {
    this.outputs.push(this.valueInfo(name, dtype, shape));
  }

  private valueInfo(name: string, dtype: DType, shape: Shape): MessageWriter {
    const dims = new MessageWriter();
    for (const size of shape) {
      const meaning = this.openSizes?.meaning(size);
      const dim = new MessageWriter();
      dims.message(1, meaning ? dim.text(2, openSizeName(meaning)) : dim.int(1, size));
    }
    const tensorType = new MessageWriter().int(1, ELEMENT_TYPE[dtype]).message(2, dims);
    return new MessageWriter().text(1, name).message(2, new MessageWriter().message(1, tensorType));
  }

  /**
   * The serialised model. `locate` names the external file of a tensor's bytes, by its name; those of one file
   * follow each other. Without it everything is in the model itself, which then stays below 2 GB.
   */
  serialize(locate?: (name: string) => string): SerializedModel {
    const graph = new MessageWriter();
    // onnxruntime walks back from the graph's leaves, last leaf first: reversed, gradients run as soon as they
    // can, and the activations they need are freed early. No node reads a leaf, so each still follows what it reads.
    const isLeaf = ({ outputs }: { readonly outputs: readonly string[] }): boolean =>
      !outputs.some((output) => this.read.has(output));
    const leaves = this.nodes.filter(isLeaf).reverse();
    for (const { message } of [...this.nodes.filter((node) => !isLeaf(node)), ...leaves]) graph.message(1, message);
    graph.text(2, "sdxs");
    const external: Record<string, Uint8Array<ArrayBuffer>[]> = {};
    const lengths: Record<string, number> = {};
    let inlineBytes = 0;
    for (const { name, shape, data } of this.initializers) {
      const tensor = new MessageWriter();
      for (const size of shape) tensor.int(1, size);
      tensor.int(2, elementType(data)).text(8, name);
      const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
      if (locate && bytes.length >= EXTERNAL_FROM_BYTES) {
        const location = locate(name);
        const offset = lengths[location] ?? 0;
        tensor
          .message(13, entry("location", location))
          .message(13, entry("offset", String(offset)))
          .message(13, entry("length", String(bytes.length)))
          .int(14, 1);
        (external[location] ??= []).push(bytes);
        lengths[location] = offset + bytes.length;
      } else {
        tensor.bytes(9, bytes);
        inlineBytes += bytes.length;
      }
      graph.message(5, tensor);
    }
    if (inlineBytes > MAX_MODEL_BYTES) {
      throw new InvalidArgumentError(
        `The model holds ${inlineBytes} bytes of weights, an ONNX file at most ${MAX_MODEL_BYTES}: name an external data file.`,
      );
    }
    for (const input of this.inputs) graph.message(11, input);
    for (const output of this.outputs) graph.message(12, output);
    const model = new MessageWriter()
      .int(1, IR_VERSION)
      .text(2, "sdxs")
      .message(7, graph)
      .message(8, new MessageWriter().text(1, "").int(2, OPSET));
    for (const domain of this.domains) model.message(8, new MessageWriter().text(1, domain).int(2, 1));
    return { model: model.finish(), external };
  }

  /** Whether another graph has the same operators and constants; of large constants, as many and of the same sizes. */
  hasSameNodes(other: OnnxGraph): boolean {
    const [mine, others] = [this, other].map((graph) => graph.serialize(() => "weights").model);
    return mine!.length === others!.length && mine!.every((byte, index) => byte === others![index]);
  }

  /** Bytes of all initializers. */
  get weightBytes(): number {
    return this.initializers.reduce((sum, { data }) => sum + data.byteLength, 0);
  }
}

export interface SerializedModel {
  /** The .onnx file. */
  readonly model: Uint8Array<ArrayBuffer>;
  /** External data files by name, as consecutive pieces. Views of the weights: write them out, do not change them. */
  readonly external: Readonly<Record<string, readonly Uint8Array<ArrayBuffer>[]>>;
}

function elementType(data: InitializerData): number {
  if (data instanceof Float32Array) return ELEMENT_TYPE.float32;
  if (data instanceof Uint16Array) return ELEMENT_TYPE.float16;
  if (data instanceof Int32Array) return ELEMENT_TYPE.int32;
  if (data instanceof Int8Array) return ELEMENT_TYPE.int8;
  if (data instanceof Uint8ClampedArray) return ELEMENT_TYPE.uint8;
  return data instanceof BigInt64Array ? ELEMENT_TYPE.int64 : ELEMENT_TYPE.bool;
}

/** onnx.AttributeProto; its type codes are FLOAT 1, INT 2, STRING 3, INTS 7. */
function attribute(name: string, value: AttributeValue): MessageWriter {
  const message = new MessageWriter().text(1, name);
  if (typeof value === "number") return message.int(3, value).int(20, 2);
  if (typeof value === "string") return message.text(4, value).int(20, 3);
  if ("float" in value) return message.float(2, value.float).int(20, 1);
  for (const item of value) message.int(8, item);
  return message.int(20, 7);
}

function entry(key: string, value: string): MessageWriter {
  return new MessageWriter().text(1, key).text(2, value);
}

/** The open size itself, as an input has it. */
const isBare = ({ names, factor, divisor }: OpenSize): boolean => names.length === 1 && factor === 1 && divisor === 1;
