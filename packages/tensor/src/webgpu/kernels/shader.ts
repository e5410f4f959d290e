import { SdxsError } from "../../core/errors.js";
import type { Node, NodeOf } from "../ir/node.js";
import { sizeOf, type DType } from "../../core/host-tensor.js";
import { cosine, sine, type SineOps } from "../../core/sine.js";
import { isScratch, type Scratch } from "./kernel.js";
import { literal } from "./literal.js";
import { helperDeclarations, type Helper } from "./non-finite.js";
import { broadcastLayout, contiguous, layoutOfView, placeOf, type Layout } from "./view.js";

/** Storage type of a buffer's elements. Booleans take four bytes. */
export type Storage = "f32" | "f16" | "i32" | "u32";

/** Of elements that keep their precision. */
export const FULL = { float32: "f32", int32: "i32", bool: "u32" } as const satisfies Record<DType, Storage>;

/** The type of an element in registers. */
const TYPES: Readonly<Record<DType, string>> = { float32: "f32", int32: "i32", bool: "bool" };

/** The properties of the graph that kernels depend on. */
export interface Surroundings {
  readonly isStored: (node: Node) => boolean;
  readonly storage: (node: Node) => Storage;
}

/** A buffer that a kernel reads, as elements, or as vectors of so many. */
interface Binding {
  readonly source: Node | Scratch;
  readonly width: 1 | 4 | 8;
}

interface CodeOptions {
  readonly enables?: readonly string[];
  /** Whether the result is written four elements at once. */
  readonly isQuad?: boolean;
}

/** Statements in one block, and what they have computed so far. */
class Block {
  readonly lines: string[] = [];
  private readonly values = new Map<string, string>();

  constructor(private readonly outer?: Block) {}

  find(key: string): string | undefined {
    return this.values.get(key) ?? this.outer?.find(key);
  }

  remember(key: string, name: string): string {
    this.values.set(key, name);
    return name;
  }
}

/**
 * A compute shader under construction: statements of the innermost open block, and the buffers they read. A node's value
 * at an index is written as an expression of stored values.
 */
export class Shader {
  private readonly bindings: Binding[] = [];
  private readonly blocks: Block[] = [new Block()];
  private readonly declarations: string[] = [];
  private readonly helpers = new Set<Helper>();
  /** By the name of an element's number, which four it belongs to. */
  private readonly quads = new Map<string, { readonly base: string; readonly lane: string }>();
  private names = 0;
  private anchor: { readonly node: Node; readonly index: string; readonly value: string } | undefined;

  constructor(private readonly around: Surroundings) {}

  get reads(): readonly (Node | Scratch)[] {
    return this.bindings.map(({ source }) => source);
  }

  /** Outside of functions. */
  declare(text: string): void {
    this.declarations.push(text);
  }

  /** A call of a function that keeps NaN and infinities. */
  call(helper: Helper, ...operands: string[]): string {
    this.helpers.add(helper);
    return `${helper}(${operands.join(", ")})`;
  }

  line(text: string): void {
    this.blocks.at(-1)!.lines.push(text);
  }

  /** A new name for the value of an expression. */
  let(expression: string): string {
    const name = this.name();
    this.line(`let ${name} = ${expression};`);
    return name;
  }

  name(): string {
    return `v${this.names++}`;
  }

  /** `head { ... }` */
  block(head: string, body: () => void): void {
    this.line(`${head} {`);
    const lines = this.capture(body);
    this.blocks.at(-1)!.lines.push(...lines, "}");
  }

  /** The statements that `body` writes, kept apart. */
  capture(body: () => void): readonly string[] {
    const block = new Block(this.blocks.at(-1));
    this.blocks.push(block);
    body();
    this.blocks.pop();
    return block.lines;
  }

  /** What `body` reads of an anchor at `index` is `value`. */
  withAnchor(node: Node, index: string, value: string, body: () => void): void {
    this.anchor = { node, index, value };
    body();
    this.anchor = undefined;
  }

  /** The name of a buffer. Eight elements, of float16, are read as `vec4<u32>`. */
  buffer(source: Node | Scratch, width: 1 | 4 | 8 = 1): string {
    let index = this.bindings.findIndex((known) => known.source === source && known.width === width);
    if (index < 0) index = this.bindings.push({ source, width }) - 1;
    return `b${index}`;
  }

  storage(source: Node | Scratch): Storage {
    return isScratch(source) ? "f32" : this.around.storage(source);
  }

  /** An element of a stored node, as it is computed with. */
  load(node: Node, index: string): string {
    const storage = this.around.storage(node);
    const element = this.quadElement(node, index) ?? this.element(node, index);
    return storage === "u32" ? `(${element} != 0u)` : storage === "f16" ? `f32(${element})` : element;
  }

  /**
   * Writes the value of the kernel's result.
   *
   * @param core the node that is computed at `index`, where the root has its elements in another order
   * @param place where the root has the element
   */
  store(root: Node, index: string, core = root, place = index): void {
    this.line(`result[${place}] = ${this.converted(this.value(core, index, true), this.around.storage(root))};`);
  }

  /** Writes four neighbours, whose first has a number divisible by four. The anchor's values are the elements of `sums`. */
  storeQuad(anchor: Node, root: Node, core: Node, index: string, sums: string, place: string): void {
    const storage = this.around.storage(root);
    const base = this.let(`${index} / 4u`);
    const values = ["x", "y", "z", "w"].map((lane, i) => {
      const own = this.let(`${index} + ${i}u`);
      this.quads.set(own, { base, lane });
      let value = "";
      this.withAnchor(anchor, own, `${sums}.${lane}`, () => (value = this.value(core, own, true)));
      return this.converted(value, storage);
    });
    this.line(`result[${place} / 4u] = vec4<${storage}>(${values.join(", ")});`);
  }

  private converted(value: string, storage: Storage): string {
    return storage === "u32" ? `select(0u, 1u, ${value})` : storage === "f16" ? `f16(${value})` : value;
  }

  /** An element by itself, of a buffer of vectors where those are bound. */
  private element(node: Node, index: string): string {
    const isBound = (width: number): boolean =>
      this.bindings.some((known) => known.source === node && known.width === width);
    if (isBound(1) || !isBound(4)) return `${this.buffer(node)}[${index}]`;
    return `${this.buffer(node, 4)}[${index} / 4u][${index} % 4u]`;
  }

  /** The element as one of a vector that its neighbours share. */
  private quadElement(node: Node, index: string): string | undefined {
    const quad = this.quads.get(index);
    if (!quad || this.bindings.some(({ source, width }) => source === node && width === 1)) return undefined;
    const key = `quad ${node.id}@${quad.base}`;
    const block = this.blocks.at(-1)!;
    const vector = block.find(key) ?? block.remember(key, this.let(`${this.buffer(node, 4)}[${quad.base}]`));
    return `${vector}.${quad.lane}`;
  }

  /**
   * The value of a node at element number `index`, a name.
   *
   * @param asRoot compute it, although it is stored: the kernel is what stores it
   */
  value(node: Node, index: string, asRoot = false): string {
    const fixed = literal(node);
    if (fixed !== undefined) return fixed.startsWith("-") ? `(${fixed})` : fixed;
    if (this.anchor?.node === node) {
      if (this.anchor.index !== index)
        throw new Error(`${node.op} is read at ${index}, computed at ${this.anchor.index}`);
      return this.anchor.value;
    }
    const key = `${node.id}@${index}`;
    const block = this.blocks.at(-1)!;
    const known = block.find(key);
    if (known !== undefined) return known;
    const expression = !asRoot && this.around.isStored(node) ? this.load(node, index) : this.expression(node, index);
    return block.remember(key, this.let(expression));
  }

  /** The whole shader. `main` is the body that was written, `builtins` its parameters. */
  code(result: Storage, threads: number, builtins: string, { enables = [], isQuad = false }: CodeOptions = {}): string {
    const kinds = this.bindings.map(({ source }) => this.storage(source));
    const half = [result, ...kinds].includes("f16") || enables.length > 0;
    const buffers = this.bindings.map(({ width }, i) => {
      const type = width === 8 ? "vec4<u32>" : width === 4 ? `vec4<${kinds[i]}>` : kinds[i];
      return `@group(0) @binding(${i + 1}) var<storage, read> b${i}: array<${type}>;`;
    });
    return [
      ...(half ? ["enable f16;"] : []),
      ...enables,
      `@group(0) @binding(0) var<storage, read_write> result: array<${isQuad ? `vec4<${result}>` : result}>;`,
      ...buffers,
      ...helperDeclarations(this.helpers),
      ...this.declarations,
      `@compute @workgroup_size(${threads})`,
      `fn main(${builtins}) {`,
      ...this.blocks[0]!.lines,
      "}",
    ].join("\n");
  }

  private expression(node: Node, index: string): string {
    const isSame = (input: Node): boolean => sizeOf(input.shape) === sizeOf(node.shape);
    const same = (input: Node): string =>
      this.value(
        input,
        isSame(input) ? index : this.place(broadcastLayout(contiguous(input.shape), node.shape), index),
      );
    switch (node.op) {
      case "map":
        return this.mapped(node, node.inputs.map(same));
      case "power":
        return this.power(same(node.inputs[0]), node.attributes.exponent);
      case "cast":
        return this.cast(node, same(node.inputs[0]));
      case "reshape":
        return this.value(node.inputs[0], index);
      case "broadcast":
        return same(node.inputs[0]);
      case "transpose":
      case "slice": {
        const [input] = node.inputs;
        return this.value(input, this.place(layoutOfView(node, contiguous(input.shape))!, index));
      }
      case "pad":
        return this.padded(node, index);
      case "concat":
        return this.joined(node, index);
      case "gather":
        return this.gathered(node, index);
      case "resizeNearest":
        return this.resized(node, index);
      case "pool":
        return this.pooled(node, index);
      case "input":
      case "constant":
      case "gemm":
      case "convolution":
      case "convolutionInputGradient":
      case "convolutionFilterGradient":
      case "reduction":
      case "softmax":
      case "normalize":
      case "inverseStd":
        throw new SdxsError("BACKEND_FAILURE", `webgpu: "${node.op}" cannot be computed element by element.`);
    }
  }

  private mapped({ attributes, inputs }: NodeOf<"map">, operands: readonly string[]): string {
    const [x = "", y = "", z = ""] = operands;
    switch (attributes.function) {
      case "neg":
        return `-${x}`;
      case "abs":
      case "sqrt":
      case "floor":
        return `${attributes.function}(${x})`;
      case "sign":
        return this.call("or_nan", x, `sign(${x})`);
      case "exp":
        return this.call("exponential", x);
      case "log":
        return this.call("logarithm", x);
      case "tanh":
        // WGSL does not define the result for large operands.
        return this.call("or_nan", x, `tanh(clamp(${x}, -20f, 20f))`);
      case "sin":
        return sine(this.arithmetic, x);
      case "cos":
        return cosine(this.arithmetic, x);
      case "sigmoid":
        return this.call("or_nan", x, `1f / (1f + exp(-${x}))`);
      case "relu":
        return this.call("relu", x);
      case "erf":
        return this.erf(x);
      case "add":
        return `${x} + ${y}`;
      case "sub":
        return `${x} - ${y}`;
      case "div":
        return `${x} / ${y}`;
      case "mul": {
        const zero = inputs.findIndex((input) => literal(input) === "0f");
        return zero < 0 ? `${x} * ${y}` : this.call("times_zero", operands[1 - zero]!);
      }
      case "maximum":
      case "minimum":
        return this.extremum(attributes.function, inputs, x, y);
      case "equal":
        return this.compared(inputs, x, "==", y);
      case "greater":
        return this.compared(inputs, x, ">", y);
      case "less":
        return this.compared(inputs, x, "<", y);
      case "where":
        return `select(${z}, ${y}, ${x})`;
    }
  }

  private extremum(name: "maximum" | "minimum", inputs: readonly Node[], x: string, y: string): string {
    const plain = `${name === "maximum" ? "max" : "min"}(${x}, ${y})`;
    if (inputs[0]!.dtype !== "float32") return plain;
    // A constant is a number.
    if (literal(inputs[0]!) !== undefined) return this.call("or_nan", y, plain);
    if (literal(inputs[1]!) !== undefined) return this.call("or_nan", x, plain);
    return this.call(name === "maximum" ? "larger" : "smaller", x, y);
  }

  private compared(inputs: readonly Node[], x: string, sign: string, y: string): string {
    const holds = `${x} ${sign} ${y}`;
    return inputs[0]!.dtype === "float32" ? `${holds} && ${this.call("are_numbers", x, y)}` : holds;
  }

  private cast({ inputs: [input], dtype }: NodeOf<"cast">, x: string): string {
    // Bits: compilers may take floats for finite.
    const isTest = dtype === "bool" && input.dtype === "float32";
    return isTest ? `(bitcast<u32>(${x}) & 0x7fffffffu) != 0u` : `${TYPES[dtype]}(${x})`;
  }

  private place(layout: Layout, index: string): string {
    const place = placeOf(layout, index);
    if (place === index) return index;
    const block = this.blocks.at(-1)!;
    return block.find(place) ?? block.remember(place, this.let(place));
  }

  /** The index along one axis of element number `index` of a shape. */
  private coordinate(shape: readonly number[], axis: number, index: string): string {
    const strides = shape.map((_, other) => (other === axis ? 1 : 0));
    return this.place({ sizes: shape, strides, offset: 0 }, index);
  }

  /** The value of `branch` where `condition` holds, else zero. */
  private where(type: string, branches: readonly (readonly [condition: string, branch: () => string])[]): string {
    const name = this.name();
    this.line(`var ${name}: ${type};`);
    branches.forEach(([condition, branch], i) => {
      const head = condition === "" ? "else" : `${i > 0 ? "else " : ""}if (${condition})`;
      this.block(head, () => this.line(`${name} = ${branch()};`));
    });
    return name;
  }

  private padded({ inputs: [input], attributes, shape, dtype }: NodeOf<"pad">, index: string): string {
    const conditions: string[] = [];
    const { strides } = contiguous(input.shape);
    const terms = shape.map((size, axis) => {
      const [before = 0, after = 0] = attributes.widths[axis] ?? [];
      const coordinate = this.coordinate(shape, axis, index);
      if (before > 0) conditions.push(`${coordinate} >= ${before}u`);
      if (after > 0) conditions.push(`${coordinate} < ${size - after}u`);
      return `(${coordinate} - ${before}u) * ${strides[axis]}u`;
    });
    const inner = (): string => this.value(input, this.let(terms.join(" + ") || "0u"));
    return this.where(TYPES[dtype], [[conditions.join(" && ") || "true", inner]]);
  }

  private joined({ inputs, attributes: { axis }, shape, dtype }: NodeOf<"concat">, index: string): string {
    const coordinate = this.coordinate(shape, axis, index);
    const inner = sizeOf(shape.slice(axis + 1));
    const outer = this.let(`${index} / ${(shape[axis] ?? 1) * inner}u`);
    const rest = inner === 1 ? "0u" : this.let(`${index} % ${inner}u`);
    let end = 0;
    return this.where(
      TYPES[dtype],
      inputs.map((input, i) => {
        const begin = end;
        const size = input.shape[axis] ?? 0;
        end += size;
        const part = (): string =>
          this.value(input, this.let(`(${outer} * ${size}u + ${coordinate} - ${begin}u) * ${inner}u + ${rest}`));
        return [i === inputs.length - 1 && i > 0 ? "" : `${coordinate} < ${end}u`, part] as const;
      }),
    );
  }

  private gathered(node: NodeOf<"gather">, index: string): string {
    const { inputs, attributes, shape } = node;
    const [table, indices] = inputs;
    const { axis } = attributes;
    const rank = indices.shape.length;
    const rows = table.shape[axis] ?? 0;
    const inner = sizeOf(table.shape.slice(axis + 1));
    const count = sizeOf(indices.shape);
    const layoutOf = (of: (i: number) => number): Layout => ({
      sizes: shape,
      strides: shape.map((_, i) => of(i)),
      offset: 0,
    });
    const at = contiguous(indices.shape).strides;
    const position = this.place(
      layoutOf((i) => (i >= axis && i < axis + rank ? at[i - axis]! : 0)),
      index,
    );
    const row = this.let(`u32(clamp(${this.value(indices, position)}, 0i, ${rows - 1}i))`);
    const outer = this.let(`${index} / ${count * inner}u`);
    return this.value(table, this.let(`(${outer} * ${rows}u + ${row}) * ${inner}u + ${index} % ${inner}u`));
  }

  private resized({ inputs: [input], attributes, shape }: NodeOf<"resizeNearest">, index: string): string {
    const first = attributes.layout === "NHWC" ? 1 : 2;
    const [height = 1, width = 1, inner = 1] = shape.slice(first);
    const [fromHeight = 1, fromWidth = 1] = input.shape.slice(first);
    const pixel = inner === 1 ? index : this.let(`${index} / ${inner}u`);
    const [x, y] = [this.let(`${pixel} % ${width}u`), this.let(`${pixel} / ${width}u % ${height}u`)];
    const plane = `${pixel} / ${width * height}u * ${fromWidth * fromHeight}u`;
    const from = `${plane} + ${y} * ${fromHeight}u / ${height}u * ${fromWidth}u + ${x} * ${fromWidth}u / ${width}u`;
    return this.value(input, this.let(inner === 1 ? from : `(${from}) * ${inner}u + ${index} % ${inner}u`));
  }

  private pooled({ inputs: [input], attributes, shape }: NodeOf<"pool">, index: string): string {
    const { k } = attributes;
    const [, , height = 1, width = 1] = shape;
    const corner = this.let(
      `(${index} / ${width}u % ${height}u) * ${k * width * k}u + ${index} / ${width * height}u * ${width * height * k * k}u + ${index} % ${width}u * ${k}u`,
    );
    const pixels = Array.from({ length: k * k }, (_, i) =>
      this.value(input, this.let(`${corner} + ${Math.floor(i / k) * width * k + (i % k)}u`)),
    );
    if (attributes.function === "max") return pixels.reduce((largest, pixel) => this.call("larger", largest, pixel));
    return `(${pixels.join(" + ")}) * ${1 / (k * k)}f`;
  }

  private power(x: string, exponent: number): string {
    if (exponent === 0) return "1f";
    if (exponent < 0) return `1f / (${this.power(x, -exponent)})`;
    if (exponent === 0.5) return `sqrt(${x})`;
    if (!Number.isInteger(exponent)) return this.call("power", x, `${exponent}f`);
    // By squares: WGSL's own takes no negative numbers.
    const factors: string[] = [];
    for (let rest = exponent, square = x; ; square = this.let(`${square} * ${square}`)) {
      if (rest % 2 === 1) factors.push(square);
      rest = Math.floor(rest / 2);
      if (rest === 0) return factors.join(" * ");
    }
  }

  /** To 1.2e-7 by Abramowitz and Stegun's 7.1.26, and by erf's series where that cancels. */
  private erf(x: string): string {
    const size = this.let(`abs(${x})`);
    const t = this.let(`1f / (1f + 0.3275911f * ${size})`);
    const series = `((((1.061405429f * ${t} - 1.453152027f) * ${t} + 1.421413741f) * ${t} - 0.284496736f) * ${t} + 0.254829592f) * ${t}`;
    const far = `sign(${x}) * (1f - ${series} * exp(-${size} * ${size}))`;
    const square = this.let(`${x} * ${x}`);
    const near = `${x} * (1.1283791671f + ${square} * (-0.3761263890f + ${square} * (0.1128379167f - ${square} * (0.0268661706f - ${square} * 0.0052239776f))))`;
    return `select(${far}, ${near}, ${size} < 0.3f)`;
  }

  private readonly arithmetic: SineOps<string> = (() => {
    const operand = (x: string | number): string => (typeof x === "number" ? `(${Math.fround(x)}f)` : x);
    const binary = (sign: string) => (a: string | number, b: string | number) =>
      this.let(`${operand(a)} ${sign} ${operand(b)}`);
    return { add: binary("+"), sub: binary("-"), mul: binary("*"), floor: (x: string) => this.let(`floor(${x})`) };
  })();
}
