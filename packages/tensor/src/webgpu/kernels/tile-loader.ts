import type { Matrix, Names } from "./gemm-operand.js";
import type { Shader } from "./shader.js";

/** One operand's side of a tile. */
export interface Side {
  readonly rows: number;
  readonly inner: number;
  readonly buffers: number;
  /** Of the whole operand. */
  readonly allRows: number;
  readonly all: number;
}

/** How the threads of a workgroup load one operand's part of a tile into shared memory. */
export class Loader {
  /** Elements that are read at once. */
  private readonly width: 1 | 4 | 8;
  /** Elements between rows, or between places of the inner axis, whichever are not neighbours. */
  private readonly pitch: number;
  /** Whether shared memory holds vectors of four, as subgroup matrices load them. */
  private readonly isVector: boolean;
  private readonly count: number;
  private readonly rows: readonly Names[];
  private readonly near: number;
  private readonly vector: string;
  /** Elements of one buffer in shared memory. */
  private readonly length: number;

  constructor(
    private readonly shader: Shader,
    private readonly name: string,
    private readonly matrix: Matrix,
    private readonly size: Side,
    private readonly threads: number,
    private readonly element: "f16" | "f32",
    first: string,
  ) {
    // Eight float16 take 16 bytes, if there is so much for each thread.
    const isHalf = shader.storage(matrix.source) === "f16";
    const fillsThreads = (size.rows * size.inner) % (threads * 8) === 0;
    this.width = matrix.width === 8 && !(isHalf && fillsThreads) ? 4 : matrix.width;
    this.near = matrix.alongInner ? size.inner : size.rows;
    this.pitch = this.near + (element === "f16" ? 8 : matrix.alongInner ? 1 : 4);
    this.count = (size.rows * size.inner) / (threads * this.width);
    this.vector = this.width === 8 ? "vec4<u32>" : this.width === 4 ? `vec4<${element}>` : element;
    const far = matrix.alongInner ? size.rows : size.inner;
    this.length = far * this.pitch;
    this.isVector = this.width > 1 && element === "f16";
    const [type, length] = this.isVector ? ["vec4<f16>", this.length / 4] : [element, this.length];
    shader.declare(`var<workgroup> ${name}: array<${type}, ${length * size.buffers}>;`);
    const rowsHere = matrix.alongInner ? this.count : 1;
    this.rows = Array.from({ length: rowsHere }, (_, i) => {
      const row = shader.let(`${first} + ${matrix.alongInner ? this.farIndex(i) : this.nearIndex}`);
      const names = matrix.row(shader, "sample", row);
      return size.allRows % size.rows === 0 ? names : { ...names, inside: shader.let(`${row} < ${size.allRows}u`) };
    });
    for (let i = 0; i < this.count; i++) shader.line(`var ${name}${i}: ${this.vector};`);
  }

  /** Reads the elements of the tile that begins at `begin` into registers. */
  fetch(begin: string): void {
    const { shader, matrix, size, name, width } = this;
    const { tile } = matrix;
    const rows = tile ? this.rows.map((row) => tile(shader, row, begin)) : this.rows;
    const place = (i: number) => {
      const index = shader.let(`${begin} + ${matrix.alongInner ? this.nearIndex : this.farIndex(i)}`);
      const names = matrix.inner(shader, index);
      return size.all % size.inner === 0 ? names : { ...names, inside: shader.let(`${index} < ${size.all}u`) };
    };
    const shared = matrix.alongInner ? place(0) : undefined;
    for (let i = 0; i < this.count; i++) {
      const [row, inner] = [rows[matrix.alongInner ? i : 0]!, shared ?? place(i)];
      const element = matrix.at(row, inner);
      const valid = [row["inside"], inner["inside"], element.valid].filter((condition) => condition !== undefined);
      const stored = shader.storage(matrix.source) as "f16" | "f32";
      const at = width > 1 ? `(${element.place}) / ${width}u` : element.place;
      const read = `${shader.buffer(matrix.source, width)}[${at}]`;
      const value = stored === this.element || width === 8 ? read : `${this.vector}(${read})`;
      if (valid.length === 0) shader.line(`${name}${i} = ${value};`);
      else {
        shader.line(`${name}${i} = ${this.vector}();`);
        shader.line(`if (${valid.join(" && ")}) { ${name}${i} = ${value}; }`);
      }
    }
  }

  /** Writes the registers to shared memory. */
  put(buffer: string): void {
    const { shader, name, pitch, width } = this;
    for (let i = 0; i < this.count; i++) {
      const place = shader.let(`${this.begin(buffer)}(${this.farIndex(i)}) * ${pitch}u + ${this.nearIndex}`);
      const value = `${name}${i}`;
      if (width === 1) shader.line(`${name}[${place}] = ${value};`);
      else if (width === 4) this.putFour(place, 0, value);
      else ["xy", "zw"].forEach((lanes, half) => this.putFour(place, half, `bitcast<vec4<f16>>(${value}.${lanes})`));
    }
  }

  /** Writes four neighbours, the first or the second from a place on. */
  private putFour(place: string, half: number, four: string): void {
    const { shader, name } = this;
    if (this.isVector) {
      shader.line(`${name}[${place} / 4u${half > 0 ? ` + ${half}u` : ""}] = ${four};`);
      return;
    }
    const elements = this.width === 8 ? shader.let(`vec4<f32>(${four})`) : four;
    for (let e = 0; e < 4; e++) shader.line(`${name}[${place} + ${4 * half + e}u] = ${elements}[${e}];`);
  }

  /** Where an element of the tile lies in shared memory. */
  at(row: string, inner: string, buffer: string): string {
    const place = this.matrix.alongInner
      ? `(${row}) * ${this.pitch}u + ${inner}`
      : `(${inner}) * ${this.pitch}u + ${row}`;
    return `${this.begin(buffer)}${place}`;
  }

  /** The arguments of `subgroupMatrixLoad` for the fragment that begins there. */
  fragment(row: string, inner: string, buffer: string): string {
    const place = this.at(row, inner, buffer);
    return this.isVector ? `(${place}) / 4u, ${this.pitch / 4}u` : `${place}, ${this.pitch}u`;
  }

  private begin(buffer: string): string {
    return this.size.buffers > 1 ? `${buffer} * ${this.length}u + ` : "";
  }

  private get nearIndex(): string {
    const { width } = this;
    return width > 1 ? `thread * ${width}u % ${this.near}u` : `thread % ${this.near}u`;
  }

  private farIndex(i: number): string {
    const { width } = this;
    const step = (this.threads * width) / this.near;
    return `(${width > 1 ? `thread * ${width}u / ${this.near}u` : `thread / ${this.near}u`} + ${i * step}u)`;
  }
}
