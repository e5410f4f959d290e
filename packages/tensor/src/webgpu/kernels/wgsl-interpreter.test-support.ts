import { compileFunction } from "node:vm";

/**
 * Runs the kernels that the compiler writes without a GPU: translates their WGSL to JavaScript, and runs the threads of a
 * workgroup from barrier to barrier. It knows the part of WGSL that they use, f16 and subgroup matrices included, rounds as f32
 * and f16 do, and throws where WGSL leaves the result open: elements outside of an array, threads that race in workgroup memory,
 * barriers that not all threads reach, subgroup matrices from places that are not the same in a subgroup.
 */

/** Runs a dispatch. `buffers` are those of group 0, by binding. */
export function runKernel(code: string, groups: readonly number[], buffers: readonly ArrayBuffer[]): void {
  const { source, threads, storage, workgroup } = translate(code);
  const clock: Clock = { thread: 0, phase: 1 };
  const subgroups = new Subgroups(clock);
  const memories = storage.map(({ type, name }, binding) => {
    if (!buffers[binding]) throw new Error(`wgsl: no buffer for ${name}`);
    return new Memory(name, type, buffers[binding]);
  });
  const shared = workgroup.map(({ name, type, length }) => {
    const bytes = new ArrayBuffer(length * lanesOf(type) * (scalarOf(type) === "f16" ? 2 : 4));
    return new Memory(name, type, bytes, new Races(name, length, clock));
  });
  const names = [...storage, ...workgroup].map(({ name }) => `$${name}`);
  const start = compileFunction(source, ["rt", ...names]) as (...values: unknown[]) => Main;
  const main = start({ ...RUNTIME, subgroups }, ...memories, ...shared);
  const [width = 1, height = 1, depth = 1] = groups;
  for (let z = 0; z < depth; z++)
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x++) {
        for (const memory of shared) memory.clear();
        runWorkgroup(main, [x, y, z], threads, clock, subgroups);
      }
}

type Main = (group: readonly number[], thread: number) => Generator<void, void, void>;

/** Which thread runs, and how many barriers came before, of all workgroups. */
interface Clock {
  thread: number;
  phase: number;
}

function runWorkgroup(main: Main, group: readonly number[], threads: number, clock: Clock, subgroups: Subgroups): void {
  const running = Array.from({ length: threads }, (_, thread) => main(group, thread));
  for (;;) {
    clock.phase += 1;
    const waiting = running.filter((thread, i) => {
      clock.thread = i;
      subgroups.enter();
      const { done } = thread.next();
      subgroups.leave();
      return !done;
    });
    if (waiting.length === 0) return;
    if (waiting.length !== threads)
      throw new Error(`wgsl: ${waiting.length} of ${threads} threads wait at a barrier, the others end`);
  }
}

/** Who has touched each element of workgroup memory since the last barrier. */
class Races {
  private readonly written: Int32Array;
  private readonly writer: Int32Array;
  private readonly read: Int32Array;
  private readonly reader: Int32Array;

  constructor(
    private readonly name: string,
    length: number,
    private readonly clock: Clock,
  ) {
    [this.written, this.writer, this.read, this.reader] = [0, 0, 0, 0].map(() => new Int32Array(length)) as [
      Int32Array,
      Int32Array,
      Int32Array,
      Int32Array,
    ];
  }

  beforeRead(index: number): void {
    const { phase, thread } = this.clock;
    if (this.written[index] === phase && this.writer[index] !== thread) this.refuse(index, this.writer[index]!);
    if (this.read[index] === phase && this.reader[index] !== thread) this.reader[index] = -1;
    else {
      this.read[index] = phase;
      this.reader[index] = thread;
    }
  }

  beforeWrite(index: number): void {
    const { phase, thread } = this.clock;
    if (this.written[index] === phase && this.writer[index] !== thread) this.refuse(index, this.writer[index]!);
    if (this.read[index] === phase && this.reader[index] !== thread) this.refuse(index, this.reader[index]!);
    this.written[index] = phase;
    this.writer[index] = thread;
  }

  private refuse(index: number, other: number): void {
    const others = other < 0 ? "several threads" : `thread ${other}`;
    throw new Error(`wgsl: thread ${this.clock.thread} and ${others} race for ${this.name}[${index}]`);
  }
}

type Value = number | readonly number[];

/** An array of scalars or vectors, as bytes. */
class Memory {
  readonly length: number;
  private readonly lanes: number;
  private readonly isHalf: boolean;
  private readonly data: Float32Array | Uint32Array | Int32Array | Uint16Array;

  constructor(
    private readonly name: string,
    type: string,
    bytes: ArrayBuffer,
    private readonly races?: Races,
  ) {
    const kind = scalarOf(type);
    this.isHalf = kind === "f16";
    this.lanes = lanesOf(type);
    const View = { f32: Float32Array, u32: Uint32Array, i32: Int32Array, f16: Uint16Array }[kind as "f32"];
    this.data = new View(bytes);
    this.length = Math.floor(this.data.length / this.lanes);
  }

  clear(): void {
    this.data.fill(0);
  }

  get(index: number): Value {
    this.check(index);
    this.races?.beforeRead(index);
    if (this.lanes === 1) return this.scalar(index);
    const vector: number[] = [];
    for (let lane = 0; lane < this.lanes; lane++) vector.push(this.scalar(index * this.lanes + lane));
    return vector;
  }

  set(index: number, value: Value): void {
    this.check(index);
    this.races?.beforeWrite(index);
    if (typeof value === "number") this.put(index, value);
    else for (let lane = 0; lane < this.lanes; lane++) this.put(index * this.lanes + lane, value[lane]!);
  }

  /** Scalar number `place` of the whole array, for subgroup matrices. */
  scalarAt(place: number): number {
    const index = Math.floor(place / this.lanes);
    this.check(index);
    this.races?.beforeRead(index);
    return this.scalar(place);
  }

  /** Elements to scalars. */
  scalars(elements: number): number {
    return elements * this.lanes;
  }

  private scalar(place: number): number {
    return this.isHalf ? HALVES[this.data[place]!]! : this.data[place]!;
  }

  private put(place: number, value: number): void {
    this.data[place] = this.isHalf ? halfBits(value) : value;
  }

  private check(index: number): void {
    if (!(index >= 0 && index < this.length))
      throw new Error(`wgsl: ${this.name}[${index}] is outside of its ${this.length} elements`);
  }
}

const FRAGMENT = 16;
type Fragment = Float32Array | undefined;

/**
 * Subgroup matrices: the first thread of each 32, which runs first, computes, the others compare their arguments with its.
 * Offsets and strides count elements of the array, which may be vectors.
 */
class Subgroups {
  private calls: number[] = [];
  private next = 0;

  constructor(private readonly clock: Clock) {}

  enter(): void {
    this.next = 0;
    if (this.isFirst) this.calls = [];
  }

  leave(): void {
    if (!this.isFirst && this.next !== this.calls.length) this.refuse();
  }

  zero(): Fragment {
    return this.isFirst ? new Float32Array(FRAGMENT * FRAGMENT) : undefined;
  }

  load(memory: Memory, offset: number, stride: number, isRowMajor: boolean): Fragment {
    if (!this.computes(offset, stride)) return undefined;
    const [begin, pitch] = [memory.scalars(offset), memory.scalars(stride)];
    const fragment = new Float32Array(FRAGMENT * FRAGMENT);
    for (let row = 0; row < FRAGMENT; row++)
      for (let column = 0; column < FRAGMENT; column++) {
        const place = isRowMajor ? row * pitch + column : column * pitch + row;
        fragment[row * FRAGMENT + column] = memory.scalarAt(begin + place);
      }
    return fragment;
  }

  store(memory: Memory, offset: number, fragment: Fragment, stride: number, isRowMajor: boolean): void {
    if (!this.computes(offset, stride)) return;
    fragment!.forEach((value, i) => {
      const [row, column] = [Math.floor(i / FRAGMENT), i % FRAGMENT];
      memory.set(offset + (isRowMajor ? row * stride + column : column * stride + row), value);
    });
  }

  multiply(left: Fragment, right: Fragment, sum: Fragment): Fragment {
    if (!this.computes(0, 0)) return undefined;
    const result = new Float32Array(FRAGMENT * FRAGMENT);
    for (let row = 0; row < FRAGMENT; row++)
      for (let column = 0; column < FRAGMENT; column++) {
        let total = sum![row * FRAGMENT + column]!;
        for (let k = 0; k < FRAGMENT; k++) total += left![row * FRAGMENT + k]! * right![k * FRAGMENT + column]!;
        result[row * FRAGMENT + column] = total;
      }
    return result;
  }

  private get isFirst(): boolean {
    return this.clock.thread % 32 === 0;
  }

  private computes(offset: number, stride: number): boolean {
    if (this.isFirst) {
      this.calls.push(offset, stride);
      return true;
    }
    if (this.calls[this.next++] !== offset || this.calls[this.next++] !== stride) this.refuse();
    return false;
  }

  private refuse(): never {
    throw new Error(`wgsl: thread ${this.clock.thread} and the first of its subgroup use different subgroup matrices`);
  }
}

/** The nearest float16, ties to even. */
export function toHalf(x: number): number {
  const size = Math.abs(x);
  if (!(size > 0 && size < Infinity)) return x;
  const step = 2 ** (Math.max(Math.floor(Math.log2(size)), -14) - 10);
  const [scaled, whole] = [size / step, Math.floor(size / step)];
  const up = scaled - whole > 0.5 || (scaled - whole === 0.5 && whole % 2 === 1);
  const rounded = (up ? whole + 1 : whole) * step;
  return Math.sign(x) * (rounded > 65504 ? Infinity : rounded);
}

/** The bits of a number that is a float16. */
function halfBits(x: number): number {
  if (Number.isNaN(x)) return 0x7e00;
  const sign = x < 0 || Object.is(x, -0) ? 0x8000 : 0;
  const size = Math.abs(x);
  if (size === Infinity) return sign | 0x7c00;
  if (size < 2 ** -14) return sign | (size * 2 ** 24);
  const exponent = Math.floor(Math.log2(size));
  return sign | ((exponent + 15) << 10) | ((size / 2 ** exponent - 1) * 1024);
}

const HALVES = Float32Array.from({ length: 0x10000 }, (_, bits) => {
  const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
  const size =
    exponent === 31
      ? fraction === 0
        ? Infinity
        : NaN
      : exponent === 0
        ? fraction * 2 ** -24
        : (1 + fraction / 1024) * 2 ** (exponent - 15);
  return bits >= 0x8000 ? -size : size;
});

const word = new DataView(new ArrayBuffer(8));

/** What translated code calls. */
const RUNTIME = {
  fround: Math.fround,
  toHalf,
  toU32: (x: number) => Math.min(Math.max(Math.trunc(x), 0), 0xffffffff) || 0,
  toI32: (x: number) => Math.min(Math.max(Math.trunc(x), -(2 ** 31)), 2 ** 31 - 1) || 0,
  floatBits(x: number): number {
    word.setFloat32(0, x);
    return word.getUint32(0);
  },
  fromBits(bits: number): number {
    word.setUint32(0, bits);
    return word.getFloat32(0);
  },
  halves: (words: readonly number[]) => words.flatMap((bits) => [HALVES[bits & 0xffff]!, HALVES[bits >>> 16]!]),
  zip: (of: (a: number, b: number) => number, a: readonly number[], b: readonly number[]) =>
    a.map((value, i) => of(value, b[i]!)),
};

const lanesOf = (type: string): number => Number(/^vec(\d)/.exec(type)?.[1] ?? 1);
const scalarOf = (type: string): string => /^vec\d<(\w+)>$/.exec(type)?.[1] ?? type;

interface Declared {
  readonly name: string;
  readonly type: string;
  readonly length: number;
}

interface Translation {
  readonly source: string;
  readonly threads: number;
  readonly storage: readonly Declared[];
  readonly workgroup: readonly Declared[];
}

const translations = new Map<string, Translation>();

function translate(code: string): Translation {
  const known = translations.get(code) ?? new Translator(code).shader();
  translations.set(code, known);
  return known;
}

/** An expression in JavaScript, and its type in WGSL; "int" is that of numbers without a suffix. */
interface Expression {
  readonly code: string;
  readonly type: string;
}

/** Operators from those that bind least. */
const LEVELS = [["||"], ["&&"], ["&"], ["==", "!=", "<", "<=", ">", ">="], ["+", "-"], ["*", "/", "%"]] as const;

const TEMPLATED = /^(vec\d|array|bitcast|var|subgroup.*)$/;

class Translator {
  private readonly tokens: readonly string[];
  private at = 0;
  private readonly scopes = [new Map<string, string>()];
  private readonly storage: Declared[] = [];
  private readonly workgroup: Declared[] = [];

  constructor(code: string) {
    const pattern =
      /\s+|\/\/.*|([A-Za-z_]\w*|0x[0-9a-f]+u?|\d[\d.]*(?:e[+-]?\d+)?[uif]?|[-+*/%]=|\+\+|->|[<>=!]=|&&|\|\||.)/gy;
    this.tokens = [...code.matchAll(pattern)].flatMap(([, token]) => (token === undefined ? [] : [token]));
  }

  shader(): Translation {
    const functions: string[] = [];
    let threads = 0;
    while (this.at < this.tokens.length) {
      const attributes = this.attributes();
      threads = attributes.get("workgroup_size") ?? threads;
      if (this.peek() === "var") this.global(attributes.get("binding"));
      else if (this.peek() === "fn") functions.push(this.function());
      else this.skipTo(";");
    }
    const { storage, workgroup } = this;
    return { source: `"use strict";\n${functions.join("\n")}\nreturn main;`, threads, storage, workgroup };
  }

  private peek(ahead = 0): string {
    return this.tokens[this.at + ahead] ?? "";
  }

  private take(expected?: string): string {
    const token = this.tokens[this.at++] ?? "";
    if (expected !== undefined && token !== expected)
      throw new Error(
        `wgsl: "${expected}" expected, "${token}" found in ${this.tokens.slice(this.at - 9, this.at + 5).join(" ")}`,
      );
    return token;
  }

  private accept(token: string): boolean {
    const found = this.peek() === token;
    if (found) this.at += 1;
    return found;
  }

  private skipTo(token: string): void {
    while (this.take() !== token);
  }

  private list<R>(end: string, item: () => R): R[] {
    const items: R[] = [];
    while (!this.accept(end)) {
      items.push(item());
      if (!this.accept(",")) {
        this.take(end);
        break;
      }
    }
    return items;
  }

  private attributes(): Map<string, number> {
    const found = new Map<string, number>();
    while (this.accept("@")) {
      const name = this.take();
      if (!this.accept("(")) continue;
      found.set(name, parseInt(this.peek(), 10));
      this.skipTo(")");
    }
    return found;
  }

  /** A type, or what else stands between the brackets of a template. */
  private type(): string {
    const name = this.take();
    if (this.peek() !== "<" || !TEMPLATED.test(name)) return name;
    this.take("<");
    return `${name}<${this.list(">", () => this.type()).join()}>`;
  }

  private typeOf(name: string): string {
    const type = [...this.scopes]
      .reverse()
      .find((scope) => scope.has(name))
      ?.get(name);
    if (type === undefined) throw new Error(`wgsl: ${name} is not declared`);
    return type;
  }

  private declare(name: string, type: string): string {
    this.scopes.at(-1)!.set(name, type);
    return `$${name}`;
  }

  private global(binding: number | undefined): void {
    this.take("var");
    this.skipTo(">");
    const name = this.take();
    this.take(":");
    const [, element = "", length = "0"] = /^array<(.*?)(?:,(\d+))?>$/.exec(this.type())!;
    this.take(";");
    this.declare(name, `array ${element}`);
    const declared: Declared = { name, type: element, length: Number(length) };
    if (binding === undefined) this.workgroup.push(declared);
    else this.storage[binding] = declared;
  }

  private function(): string {
    this.take("fn");
    const name = this.take();
    this.take("(");
    this.scopes.push(new Map());
    const parameters = this.list(")", () => {
      this.attributes();
      const parameter = this.take();
      this.take(":");
      return this.declare(parameter, this.type());
    });
    const type = this.accept("->") ? this.type() : "void";
    const body = this.block();
    this.scopes.pop();
    this.scopes[0]!.set(name, type);
    return `function${name === "main" ? "*" : ""} ${name}(${parameters.join(", ")}) ${body}`;
  }

  private block(): string {
    this.take("{");
    this.scopes.push(new Map());
    const lines: string[] = [];
    while (!this.accept("}")) lines.push(this.statement());
    this.scopes.pop();
    return `{\n${lines.join("\n")}\n}`;
  }

  private statement(): string {
    switch (this.peek()) {
      case "{":
        return this.block();
      case "if": {
        this.take();
        const head = `if (${this.expression().code}) ${this.block()}`;
        if (!this.accept("else")) return head;
        return `${head} else ${this.peek() === "if" ? this.statement() : this.block()}`;
      }
      case "for": {
        this.take();
        this.take("(");
        this.scopes.push(new Map());
        const begin = this.simple();
        this.take(";");
        const condition = this.expression().code;
        this.take(";");
        const step = this.simple();
        this.take(")");
        const loop = `for (${begin}; ${condition}; ${step}) ${this.block()}`;
        this.scopes.pop();
        return loop;
      }
      case "return": {
        this.take();
        const value = this.peek() === ";" ? "" : this.expression().code;
        this.take(";");
        return `return ${value};`;
      }
    }
    const statement = this.simple();
    this.take(";");
    return `${statement};`;
  }

  /** A declaration, an assignment or a call. */
  private simple(): string {
    if (["let", "var", "const"].includes(this.peek())) {
      const keyword = this.take() === "var" ? "let" : "const";
      const name = this.take();
      const declared = this.accept(":") ? this.type() : undefined;
      const value = this.accept("=") ? this.expression() : { code: this.zero(declared!), type: declared! };
      const type = declared ?? (value.type === "int" ? "i32" : value.type);
      return `${keyword} ${this.declare(name, type)} = ${value.code}`;
    }
    if (this.peek() === "workgroupBarrier") {
      this.at += 3;
      return "yield";
    }
    const begin = this.at;
    const target = this.postfix();
    const operator = this.peek();
    if (operator === "++") {
      this.take();
      return this.assign(target, this.arithmetic("+", target, { code: "1", type: "int" }), begin);
    }
    if (!/^[-+*/%]?=$/.test(operator)) return target.code;
    this.take();
    const value = this.expression();
    return this.assign(target, operator === "=" ? value : this.arithmetic(operator[0]!, target, value), begin);
  }

  private assign(target: Expression, value: Expression, begin: number): string {
    const element = /^(\$\w+)\.get\((.*)\)$/s.exec(target.code);
    if (element) return `${element[1]}.set(${element[2]}, ${value.code})`;
    if (!/^\$\w+$/.test(target.code))
      throw new Error(`wgsl: cannot assign to ${this.tokens.slice(begin, this.at).join("")}`);
    return `${target.code} = ${value.code}`;
  }

  private zero(type: string): string {
    if (type.startsWith("subgroup_matrix")) return "rt.subgroups.zero()";
    if (type.startsWith("vec")) return `[${Array(lanesOf(type)).fill(0).join()}]`;
    return type === "bool" ? "false" : "0";
  }

  private expression(level = 0): Expression {
    const operators: readonly string[] | undefined = LEVELS[level];
    if (!operators) return this.unary();
    let left = this.expression(level + 1);
    while (operators.includes(this.peek())) {
      const operator = this.take();
      left = this.binary(operator, left, this.expression(level + 1));
    }
    return left;
  }

  private binary(operator: string, left: Expression, right: Expression): Expression {
    if (operator === "||" || operator === "&&" || /^[=!<>]/.test(operator)) {
      const same = operator === "==" || operator === "!=" ? `${operator}=` : operator;
      return { code: `(${left.code} ${same} ${right.code})`, type: "bool" };
    }
    return this.arithmetic(operator, left, right);
  }

  private arithmetic(operator: string, left: Expression, right: Expression): Expression {
    const type = left.type === "int" ? right.type : left.type;
    if (right.type !== type && right.type !== "int")
      throw new Error(`wgsl: ${left.type} ${operator} ${right.type}: ${left.code} ${operator} ${right.code}`);
    if (type.startsWith("vec")) {
      const { code } = this.arithmetic(
        operator,
        { code: "a", type: scalarOf(type) },
        { code: "b", type: scalarOf(type) },
      );
      return { code: `rt.zip((a, b) => ${code}, ${left.code}, ${right.code})`, type };
    }
    const plain = `${left.code} ${operator} ${right.code}`;
    const product = `Math.imul(${left.code}, ${right.code})`;
    switch (type) {
      case "u32":
        return { code: `(${operator === "*" ? product : `(${plain})`} >>> 0)`, type };
      case "i32":
      case "int":
        return { code: `(${operator === "*" ? product : `(${plain})`} | 0)`, type };
      case "f32":
        return { code: `rt.fround(${plain})`, type };
      case "f16":
        return { code: `rt.toHalf(${plain})`, type };
    }
    throw new Error(`wgsl: ${operator} of ${type}`);
  }

  private unary(): Expression {
    if (this.accept("-")) {
      const { code, type } = this.unary();
      return { code: type === "i32" ? `(-${code} | 0)` : `(-${code})`, type };
    }
    if (this.accept("!")) return { code: `!${this.unary().code}`, type: "bool" };
    this.accept("&");
    return this.postfix();
  }

  private postfix(): Expression {
    let value = this.primary();
    for (;;) {
      if (this.accept("[")) {
        const index = this.expression().code;
        this.take("]");
        value = value.type.startsWith("array ")
          ? { code: `${value.code}.get(${index})`, type: value.type.slice(6) }
          : { code: `${value.code}[${index}]`, type: scalarOf(value.type) };
      } else if (this.accept(".")) {
        const lanes = this.take()
          .split("")
          .map((lane) => `${value.code}[${"xyzw".indexOf(lane)}]`);
        const scalar = scalarOf(value.type);
        value =
          lanes.length === 1
            ? { code: lanes[0]!, type: scalar }
            : { code: `[${lanes.join()}]`, type: `vec${lanes.length}<${scalar}>` };
      } else return value;
    }
  }

  private primary(): Expression {
    if (this.accept("(")) {
      const { code, type } = this.expression();
      this.take(")");
      return { code: `(${code})`, type };
    }
    if (/^\d/.test(this.peek())) return number(this.take());
    if (this.peek() === "true" || this.peek() === "false") return { code: this.take(), type: "bool" };
    const isCall = this.peek(1) === "(" || (this.peek(1) === "<" && TEMPLATED.test(this.peek()));
    if (!isCall) {
      const name = this.take();
      return { code: `$${name}`, type: this.typeOf(name) };
    }
    const callee = this.type();
    this.take("(");
    return this.call(
      callee,
      this.list(")", () => this.expression()),
    );
  }

  private call(callee: string, operands: readonly Expression[]): Expression {
    const codes = operands.map(({ code }) => code);
    const [x = "", y = "", z = "", w = ""] = codes;
    const type = operands.find((operand) => operand.type !== "int")?.type ?? "";
    if (callee.startsWith("vec")) return this.vector(callee, operands);
    if (callee.startsWith("bitcast<")) return bitcast(operands[0]!, callee.slice(8, -1));
    const load = /^subgroupMatrixLoad<(.*),(row|col)_major>$/.exec(callee);
    if (load) return { code: `rt.subgroups.load(${x}, ${y}, ${z}, ${load[2] === "row"})`, type: load[1]! };
    const store = /^subgroupMatrixStore<(row|col)_major>$/.exec(callee);
    if (store) return { code: `rt.subgroups.store(${x}, ${y}, ${z}, ${w}, ${store[1] === "row"})`, type: "void" };
    const rounded = (code: string): Expression => ({
      code: type === "f32" ? `rt.fround(${code})` : type === "f16" ? `rt.toHalf(${code})` : code,
      type,
    });
    switch (callee) {
      case "subgroupMatrixMultiplyAccumulate":
        return { code: `rt.subgroups.multiply(${codes.join(", ")})`, type: operands[2]!.type };
      case "f32":
        return { code: x === "" ? "0" : `rt.fround(${x})`, type: "f32" };
      case "f16":
        return { code: x === "" ? "0" : `rt.toHalf(${x})`, type: "f16" };
      case "u32":
        return { code: type === "f32" ? `rt.toU32(${x})` : `(${x} >>> 0)`, type: "u32" };
      case "i32":
        return { code: type === "f32" ? `rt.toI32(${x})` : `(${x} | 0)`, type: "i32" };
      case "select":
        return { code: `(${z} ? ${y} : ${x})`, type };
      case "clamp":
        return { code: `Math.min(Math.max(${x}, ${y}), ${z})`, type };
      case "abs":
      case "sqrt":
      case "floor":
      case "sign":
      case "exp":
      case "log":
      case "tanh":
      case "pow":
      case "min":
      case "max":
        return rounded(`Math.${callee}(${codes.join(", ")})`);
    }
    return { code: `${callee}(${codes.join(", ")})`, type: this.typeOf(callee) };
  }

  private vector(type: string, operands: readonly Expression[]): Expression {
    const scalar = scalarOf(type);
    if (operands.length === 0) return { code: this.zero(type), type };
    if (operands.length > 1) return { code: `[${operands.map(({ code }) => code).join(", ")}]`, type };
    const [{ code, type: from }] = operands as [Expression];
    return { code: scalarOf(from) !== "f16" && scalar === "f16" ? `${code}.map(rt.toHalf)` : code, type };
  }
}

function number(token: string): Expression {
  if (/^0x|u$/.test(token)) return { code: token.replace(/u$/, ""), type: "u32" };
  if (/i$/.test(token)) return { code: token.slice(0, -1), type: "i32" };
  return /^\d+$/.test(token)
    ? { code: token, type: "int" }
    : { code: String(Math.fround(parseFloat(token))), type: "f32" };
}

function bitcast({ code, type: from }: Expression, type: string): Expression {
  if (from === "f32" && type === "u32") return { code: `rt.floatBits(${code})`, type };
  if (from === "u32" && type === "f32") return { code: `rt.fromBits(${code})`, type };
  if (from === "vec2<u32>" && type === "vec4<f16>") return { code: `rt.halves(${code})`, type };
  throw new Error(`wgsl: bitcast of ${from} to ${type}`);
}
