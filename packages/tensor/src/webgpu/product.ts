import type { Node } from "../graph/node.js";
import { sizeOf, type Shape } from "../host-tensor.js";
import { BUILTINS, elementsKernel, labelOf, type Kernel, type Scratch } from "./kernel.js";
import {
  gradientMatrix,
  imageOf,
  stridedMatrix,
  weightWindowsMatrix,
  windowsMatrix,
  type Matrix,
  type Names,
  type Windows,
} from "./matrix.js";
import { Shader, type Surroundings } from "./shader.js";
import { broadcastLayout, contiguous, viewOf, type Layout } from "./view.js";

/** A batch of products of two matrices, and how the result is cut into tiles. */
interface Product {
  readonly batch: number;
  readonly rows: number;
  readonly columns: number;
  readonly inner: number;
  readonly left: Matrix;
  readonly right: Matrix;
}

/** A workgroup's part of the result, and the length of the inner axis that it holds at once. */
interface Tile {
  readonly rows: number;
  readonly columns: number;
  readonly inner: number;
  /** Parts of the tile, each of which belongs to one thread, or with matrix units to 32 threads together. */
  readonly grid: readonly [rows: number, columns: number];
}

const LARGE: Tile = { rows: 128, columns: 128, inner: 32, grid: [2, 4] };
const SMALL: Tile = { rows: 64, columns: 64, inner: 64, grid: [2, 4] };
const SCALAR: Tile = { rows: 64, columns: 64, inner: 16, grid: [16, 16] };

/** The side of the squares that a GPU's matrix units multiply. */
const SQUARE = 16;

/** Workgroups that keep a large GPU busy, several to each of its cores so that one computes while others wait: chosen. */
const BUSY = 512;

/** Elements of the inner axis that make a workgroup of its own worth while: chosen. */
const LEAST_INNER = 1024;

/**
 * The kernels around a matrix product or a convolution: where the inner axis is shared out, a second one adds up.
 *
 * @param useUnits multiply in float16, by the GPU's matrix units, into sums of float32
 */
export function productKernels(root: Node, anchor: Node, around: Surroundings, useUnits: boolean): readonly Kernel[] {
  // Channels that fill tiles of one length may not fill those of another.
  const tile = useUnits ? tileFor(productOf(anchor, around, SMALL.inner)) : SCALAR;
  const product = productOf(anchor, around, tile.inner);
  const splits = splitsFor(product, tile);
  const total = product.batch * product.rows * product.columns;
  const scratch: Scratch | undefined = splits > 1 ? { scratchBytes: 4 * splits * total } : undefined;
  const shader = new Shader(around);
  const write = (index: string, sum: string): void =>
    scratch
      ? shader.line(`result[split * ${total}u + ${index}] = ${sum};`)
      : shader.withAnchor(anchor, index, sum, () => shader.store(root, index));
  const threads = tileProgram(shader, product, tile, splits, useUnits, write);
  const result = scratch ? "f32" : around.storage(root);
  const enables = useUnits ? MATRIX_UNITS : [];
  const main: Kernel = {
    label: `${labelOf(anchor)} over ${product.inner}`,
    code: shader.code(result, threads, BUILTINS, enables),
    groups: [Math.ceil(product.columns / tile.columns), Math.ceil(product.rows / tile.rows), product.batch * splits],
    reads: shader.reads,
    result: scratch ?? root,
  };
  return scratch ? [main, sumKernel(root, anchor, around, scratch, splits, total)] : [main];
}

const MATRIX_UNITS = [
  "enable subgroups;",
  "enable chromium_experimental_subgroup_matrix;",
  // Equal in 32 threads that follow each other, which the compiler cannot know of their number divided by 32.
  "diagnostic(off, chromium.subgroup_matrix_uniformity);",
];

function tileFor({ batch, rows, columns }: Product): Tile {
  const groups = (tile: Tile): number => batch * Math.ceil(rows / tile.rows) * Math.ceil(columns / tile.columns);
  return rows > LARGE.rows / 2 && columns > LARGE.columns / 2 && groups(LARGE) >= BUSY / 2 ? LARGE : SMALL;
}

function splitsFor({ batch, rows, columns, inner }: Product, tile: Tile): number {
  const groups = batch * Math.ceil(rows / tile.rows) * Math.ceil(columns / tile.columns);
  return Math.max(1, Math.min(Math.floor(inner / LEAST_INNER), Math.floor(BUSY / groups)));
}

/** Adds up what the workgroups of one tile have, and joins what follows the product. */
function sumKernel(
  root: Node,
  anchor: Node,
  around: Surroundings,
  scratch: Scratch,
  splits: number,
  total: number,
): Kernel {
  const kernel = elementsKernel(root, around, (shader, index) => {
    const part = shader.buffer(scratch);
    const parts = Array.from({ length: splits }, (_, i) => `${part}[${index} + ${i * total}u]`);
    shader.withAnchor(anchor, index, shader.let(parts.join(" + ")), () => shader.store(root, index));
  });
  return { ...kernel, label: `${splits} parts of ${labelOf(root)}` };
}

function productOf(anchor: Node, around: Surroundings, tileSize: number): Product {
  const [first, second] = anchor.inputs.slice(0, 2).map((input) => viewOf(input, around.isStored)) as [
    ReturnType<typeof viewOf>,
    ReturnType<typeof viewOf>,
  ];
  const { attributes, shape, op } = anchor;
  const { stride = 1, padding: [top, , left] = [0, 0, 0, 0] } = attributes;
  const windows = (kernel: Shape, places: Shape): Windows => ({
    kernel: [kernel[0]!, kernel[1]!],
    stride,
    top,
    left,
    places: [places[0]!, places[1]!],
  });
  const none = contiguous([]);
  /** [rows, ...inner] without gaps. */
  const weights = (node: Node): Matrix => {
    const [rows = 1, ...rest] = node.shape;
    const inner = sizeOf(rest);
    return stridedMatrix(node, none, { sizes: [rows], strides: [inner], offset: 0 }, contiguous([inner]));
  };
  switch (op) {
    case "conv2d":
    case "conv2dInputGrad": {
      // Weights [out, height, width, in], for the gradient [in, height, width, out].
      const [image, kernel] = anchor.inputs as [Node, Node];
      const [batch = 1, rows = 1, ...places] = shape;
      const walked = windows(kernel.shape.slice(1, 3), places);
      return {
        batch,
        rows,
        columns: sizeOf(places),
        inner: sizeOf(kernel.shape) / rows,
        left: weights(kernel),
        right: windowsMatrix(imageOf(first, image.shape), walked, op === "conv2dInputGrad", tileSize),
      };
    }
    case "conv2dWeightGrad": {
      const [image, gradient] = anchor.inputs as [Node, Node];
      const [rows = 1, channels = 1, height = 1, width = 1] = shape;
      const [batch = 1, , outHeight = 1, outWidth = 1] = gradient.shape;
      return {
        batch: 1,
        rows,
        columns: channels * height * width,
        inner: batch * outHeight * outWidth,
        left: gradientMatrix(second),
        right: weightWindowsMatrix(imageOf(first, image.shape), windows([height, width], [outHeight, outWidth])),
      };
    }
    default: {
      const [rows = 1, columns = 1] = shape.slice(-2);
      const { transposeA = false, transposeB = false } = attributes;
      const [a, b] = anchor.inputs as [Node, Node];
      const leading = shape.slice(0, -2);
      const matrix = (view: typeof first, operand: Shape, rowsAxis: -1 | -2): Matrix => {
        const layout = broadcastLayout(view.layout, [...leading, ...operand.slice(-2)]);
        const rank = layout.sizes.length;
        const part = (begin: number, end: number, offset: number): Layout => ({
          sizes: layout.sizes.slice(begin, end),
          strides: layout.strides.slice(begin, end),
          offset,
        });
        const axis = (i: -1 | -2): Layout => part(rank + i, rank + i + 1, 0);
        return stridedMatrix(view.source, part(0, -2, layout.offset), axis(rowsAxis), axis(rowsAxis === -1 ? -2 : -1));
      };
      return {
        batch: sizeOf(leading),
        rows,
        columns,
        inner: a.shape.at(transposeA ? -2 : -1) ?? 1,
        left: matrix(first, a.shape, transposeA ? -1 : -2),
        right: matrix(second, b.shape, transposeB ? -2 : -1),
      };
    }
  }
}

/** How the threads of a workgroup bring one operand's part of a tile into shared memory. */
class Loader {
  /** Elements between rows, or between places of the inner axis, whichever are not neighbours. */
  private readonly pitch: number;
  /** Whether shared memory holds vectors of four, as matrix units take them. */
  private readonly isVector: boolean;
  private readonly count: number;
  private readonly rows: readonly Names[];
  private readonly near: number;
  private readonly vector: string;

  constructor(
    private readonly shader: Shader,
    private readonly name: string,
    private readonly matrix: Matrix,
    private readonly size: {
      readonly rows: number;
      readonly inner: number;
      readonly allRows: number;
      readonly all: number;
    },
    private readonly threads: number,
    private readonly element: "f16" | "f32",
    first: string,
  ) {
    this.near = matrix.alongInner ? size.inner : size.rows;
    this.pitch = this.near + (element === "f16" ? 8 : matrix.alongInner ? 1 : 4);
    this.count = (size.rows * size.inner) / (threads * matrix.width);
    this.vector = matrix.width === 4 ? `vec4<${element}>` : element;
    const far = matrix.alongInner ? size.rows : size.inner;
    this.isVector = matrix.width === 4 && element === "f16";
    const [type, length] = this.isVector ? [this.vector, (far * this.pitch) / 4] : [element, far * this.pitch];
    shader.declare(`var<workgroup> ${name}: array<${type}, ${length}>;`);
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
    const { shader, matrix, size, name } = this;
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
      const at = matrix.width === 4 ? `(${element.place}) / 4u` : element.place;
      const read = `${shader.buffer(matrix.source, matrix.width === 4)}[${at}]`;
      const value = stored === this.element ? read : `${this.vector}(${read})`;
      if (valid.length === 0) shader.line(`${name}${i} = ${value};`);
      else {
        shader.line(`${name}${i} = ${this.vector}();`);
        shader.line(`if (${valid.join(" && ")}) { ${name}${i} = ${value}; }`);
      }
    }
  }

  /** Writes the registers to shared memory. */
  put(): void {
    const { shader, name, matrix, pitch } = this;
    for (let i = 0; i < this.count; i++) {
      const place = shader.let(`(${this.farIndex(i)}) * ${pitch}u + ${this.nearIndex}`);
      if (this.isVector) shader.line(`${name}[${place} / 4u] = ${name}${i};`);
      else if (matrix.width === 1) shader.line(`${name}[${place}] = ${name}${i};`);
      else for (let e = 0; e < 4; e++) shader.line(`${name}[${place} + ${e}u] = ${name}${i}[${e}];`);
    }
  }

  /** Where an element of the tile lies in shared memory. */
  at(row: string, inner: string): string {
    return this.matrix.alongInner ? `(${row}) * ${this.pitch}u + ${inner}` : `(${inner}) * ${this.pitch}u + ${row}`;
  }

  /** The arguments of a load by matrix units of the square that begins there. */
  square(row: string, inner: string): string {
    const place = this.at(row, inner);
    return this.isVector ? `(${place}) / 4u, ${this.pitch / 4}u` : `${place}, ${this.pitch}u`;
  }

  private get nearIndex(): string {
    const { width } = this.matrix;
    return width === 4 ? `thread * 4u % ${this.near}u` : `thread % ${this.near}u`;
  }

  private farIndex(i: number): string {
    const { width } = this.matrix;
    const step = (this.threads * width) / this.near;
    return `(${width === 4 ? `thread * 4u / ${this.near}u` : `thread / ${this.near}u`} + ${i * step}u)`;
  }
}

/** Writes the body, and gives the number of threads. */
function tileProgram(
  shader: Shader,
  product: Product,
  tile: Tile,
  splits: number,
  useUnits: boolean,
  write: (index: string, sum: string) => void,
): number {
  const { rows, columns, inner } = product;
  const [gridRows, gridColumns] = tile.grid;
  const threads = gridRows * gridColumns * (useUnits ? 32 : 1);
  const steps = Math.ceil(inner / tile.inner);
  const stepsEach = Math.ceil(steps / splits);
  shader.line(`let sample = group.z / ${splits}u;`);
  shader.line(`let split = group.z % ${splits}u;`);
  shader.line(`let first_row = group.y * ${tile.rows}u;`);
  shader.line(`let first_column = group.x * ${tile.columns}u;`);
  shader.line(splits > 1 ? `let begin = split * ${stepsEach * tile.inner}u;` : "const begin = 0u;");
  const end = steps * tile.inner;
  shader.line(splits > 1 ? `let end = min(begin + ${stepsEach * tile.inner}u, ${end}u);` : `const end = ${end}u;`);
  const element = useUnits ? "f16" : "f32";
  const side = (count: number, all: number) => ({ rows: count, inner: tile.inner, allRows: all, all: inner });
  const left = new Loader(shader, "left", product.left, side(tile.rows, rows), threads, element, "first_row");
  const right = new Loader(
    shader,
    "right",
    product.right,
    side(tile.columns, columns),
    threads,
    element,
    "first_column",
  );

  /** One element of the result, behind whatever follows the product. */
  shader.declare(
    ["fn finish(index: u32, sum: f32, split: u32) {", ...shader.capture(() => write("index", "sum")), "}"].join("\n"),
  );
  const finish = (row: string, column: string, sum: string): void => {
    const conditions = [
      ...(rows % tile.rows === 0 ? [] : [`${row} < ${rows}u`]),
      ...(columns % tile.columns === 0 ? [] : [`${column} < ${columns}u`]),
    ];
    const call = `finish((sample * ${rows}u + ${row}) * ${columns}u + ${column}, ${sum}, split);`;
    shader.line(conditions.length > 0 ? `if (${conditions.join(" && ")}) { ${call} }` : call);
  };
  // Each turn reads a tile while the one before it is multiplied.
  const loop = (compute: () => void): void =>
    shader.block(`for (var step = begin; step < end + ${tile.inner}u; step += ${tile.inner}u)`, () => {
      shader.block("if (step < end)", () => {
        left.fetch("step");
        right.fetch("step");
      });
      shader.block("if (step > begin)", compute);
      shader.line("workgroupBarrier();");
      shader.block("if (step < end)", () => {
        left.put();
        right.put();
      });
      shader.line("workgroupBarrier();");
    });
  if (useUnits) unitProgram(shader, tile, left, right, product, loop, finish);
  else scalarProgram(shader, tile, left, right, loop, finish);
  return threads;
}

type Finish = (row: string, column: string, sum: string) => void;
type Loop = (compute: () => void) => void;

const times = <R>(count: number, of: (i: number) => R): R[] => Array.from({ length: count }, (_, i) => of(i));

/** Each thread multiplies its rows by its columns. */
function scalarProgram(shader: Shader, tile: Tile, left: Loader, right: Loader, loop: Loop, finish: Finish): void {
  const [gridRows, gridColumns] = tile.grid;
  const [high, wide] = [tile.rows / gridRows, tile.columns / gridColumns];
  shader.line(`let own_row = thread / ${gridColumns}u * ${high}u;`);
  shader.line(`let own_column = thread % ${gridColumns}u;`);
  for (let i = 0; i < high * wide; i++) shader.line(`var sum${i} = 0f;`);
  loop(() =>
    shader.block(`for (var k = 0u; k < ${tile.inner}u; k++)`, () => {
      const a = times(high, (i) => shader.let(`left[${left.at(`own_row + ${i}u`, "k")}]`));
      const b = times(wide, (j) => shader.let(`right[${right.at(`own_column + ${j * gridColumns}u`, "k")}]`));
      times(high * wide, (x) => shader.line(`sum${x} += ${a[Math.floor(x / wide)]} * ${b[x % wide]};`));
    }),
  );
  times(high * wide, (x) => {
    const row = shader.let(`first_row + own_row + ${Math.floor(x / wide)}u`);
    const column = shader.let(`first_column + own_column + ${(x % wide) * gridColumns}u`);
    finish(row, column, `sum${x}`);
  });
}

/** Each 32 threads multiply squares by the GPU's matrix units, into sums of float32. */
function unitProgram(
  shader: Shader,
  tile: Tile,
  left: Loader,
  right: Loader,
  { left: leftMatrix, right: rightMatrix }: Product,
  loop: Loop,
  finish: Finish,
): void {
  const [gridRows, gridColumns] = tile.grid;
  const [high, wide] = [tile.rows / gridRows / SQUARE, tile.columns / gridColumns / SQUARE];
  const warps = gridRows * gridColumns;
  const strip = wide * SQUARE;
  shader.declare(`var<workgroup> squares: array<f32, ${warps * SQUARE * strip}>;`);
  shader.line("let warp = thread / 32u;");
  shader.line("let lane = thread % 32u;");
  shader.line(`let own_row = warp / ${gridColumns}u * ${high * SQUARE}u;`);
  shader.line(`let own_column = warp % ${gridColumns}u * ${strip}u;`);
  for (let i = 0; i < high * wide; i++) shader.line(`var sum${i}: subgroup_matrix_result<f32, ${SQUARE}, ${SQUARE}>;`);
  const load = (side: "left" | "right", loader: Loader, row: string, inner: string): string => {
    const { alongInner } = side === "left" ? leftMatrix : rightMatrix;
    const order = alongInner === (side === "left") ? "row_major" : "col_major";
    const type = `subgroup_matrix_${side}<f16, ${SQUARE}, ${SQUARE}>`;
    return shader.let(`subgroupMatrixLoad<${type}, ${order}>(&${side}, ${loader.square(row, inner)})`);
  };
  loop(() => {
    shader.block(`for (var k = 0u; k < ${tile.inner}u; k += ${SQUARE}u)`, () => {
      const a = times(high, (i) => load("left", left, `own_row + ${i * SQUARE}u`, "k"));
      const b = times(wide, (j) => load("right", right, `own_column + ${j * SQUARE}u`, "k"));
      times(high * wide, (x) =>
        shader.line(`sum${x} = subgroupMatrixMultiplyAccumulate(${a[Math.floor(x / wide)]}, ${b[x % wide]}, sum${x});`),
      );
    });
  });
  shader.line(`let own_squares = warp * ${SQUARE * strip}u;`);
  times(high, (i) => {
    shader.line("workgroupBarrier();");
    times(wide, (j) =>
      shader.line(
        `subgroupMatrixStore<row_major>(&squares, own_squares + ${j * SQUARE}u, sum${i * wide + j}, ${strip}u);`,
      ),
    );
    shader.line("workgroupBarrier();");
    shader.block(`for (var e = lane; e < ${SQUARE * strip}u; e += 32u)`, () => {
      const row = shader.let(`first_row + own_row + ${i * SQUARE}u + e / ${strip}u`);
      const column = shader.let(`first_column + own_column + e % ${strip}u`);
      finish(row, column, "squares[own_squares + e]");
    });
  });
}
