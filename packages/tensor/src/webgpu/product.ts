import type { Node } from "../graph/node.js";
import { sizeOf, type Shape } from "../core/host-tensor.js";
import { elementwiseKernel } from "./elementwise.js";
import { BUILTINS, labelOf, type Kernel, type Scratch } from "./kernel.js";
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
import { broadcastLayout, contiguous, placeOf, viewOf, type Layout } from "./view.js";

/** A batch of products of two matrices. */
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
  /** Tiles in shared memory: with two, one is filled while the other is multiplied. */
  readonly buffers: 1 | 2;
}

/** A tile for matrix units, and how long 64 of its inner axis take in microseconds on an H100. */
interface UnitTile extends Tile {
  /** Alone on a core. */
  readonly alone: number;
  /** Each of several. */
  readonly shared: number;
}

// The fastest of 13 forms on an H100, for products of many tiles and of few.
const LARGE: UnitTile = { rows: 128, columns: 64, inner: 32, grid: [2, 2], buffers: 1, alone: 1.3, shared: 0.82 };
const SMALL: UnitTile = { rows: 64, columns: 64, inner: 64, grid: [2, 2], buffers: 2, alone: 0.77, shared: 0.58 };
/** For products of few columns, as those that make an image's colours. */
const NARROW: UnitTile = { rows: 128, columns: 16, inner: 64, grid: [4, 1], buffers: 1, alone: 0.8, shared: 0.5 };
const SCALAR: Tile = { rows: 64, columns: 64, inner: 16, grid: [16, 16], buffers: 1 };

/** The side of the squares that a GPU's matrix units multiply. */
const SQUARE = 16;

/** A large GPU's cores, as an H100 has them: WebGPU does not tell. */
const CORES = 132;

/** What sharing out the inner axis costs on an H100: another kernel, and sums that are written and read. */
const SPLIT_MICROSECONDS = 3;
const SPLIT_BYTES_PER_MICROSECOND = 1e6;
const MOST_SPLITS = 12;

/** Workgroups that keep a large GPU busy, where threads multiply by themselves: chosen. */
const BUSY = 512;

/** Elements of the inner axis that make a workgroup of its own worth while there: chosen. */
const LEAST_INNER = 1024;

/** How a product is cut up: into tiles, and along the inner axis. */
interface Form {
  readonly tile: Tile;
  readonly splits: number;
}

/**
 * The kernels around a matrix product or a convolution: where the inner axis is shared out, a second one adds up.
 *
 * @param useUnits multiply in float16, by the GPU's matrix units, into sums of float32
 */
export function productKernels(root: Node, anchor: Node, around: Surroundings, useUnits: boolean): readonly Kernel[] {
  const { tile, splits } = (useUnits ? unitForm : scalarForm)(productOf(anchor, around, SMALL.inner));
  // Channels that fill tiles of one length may not fill those of another.
  const product = productOf(anchor, around, tile.inner);
  const total = product.batch * product.rows * product.columns;
  const scratch: Scratch | undefined = splits > 1 ? { scratchBytes: 4 * splits * total } : undefined;
  const target = targetOf(root);
  const isQuad = useUnits && product.columns % 4 === 0 && target.keepsLast;
  const result: Result = { root, anchor, target, isQuad };
  const shader = new Shader(around);
  const write = (): void => {
    const place = `split * ${total}u + index`;
    if (!scratch) writeResult(shader, result, "index", "sum");
    else shader.line(`result[${isQuad ? `(${place}) / 4u` : place}] = sum;`);
  };
  const threads = tileProgram(shader, product, tile, splits, useUnits, isQuad, write);
  const enables = useUnits ? MATRIX_UNITS : [];
  const main: Kernel = {
    label: `${labelOf(anchor)} over ${product.inner}`,
    code: shader.code(scratch ? "f32" : around.storage(root), threads, BUILTINS, { enables, isQuad }),
    groups: [Math.ceil(product.columns / tile.columns), Math.ceil(product.rows / tile.rows), product.batch * splits],
    reads: shader.reads,
    result: scratch ?? root,
  };
  return scratch ? [main, sumKernel(result, around, scratch, splits)] : [main];
}

/** What becomes of a product. */
interface Result {
  readonly root: Node;
  readonly anchor: Node;
  readonly target: Target;
  /** Whether four elements are written at once. */
  readonly isQuad: boolean;
}

/** Writes what follows the product at `index`; `sum` is the product's element there, or four. */
function writeResult(shader: Shader, { root, anchor, target, isQuad }: Result, index: string, sum: string): void {
  const place = target.place(shader, index);
  if (isQuad) shader.storeQuad(anchor, root, target.core, index, sum, place);
  else shader.withAnchor(anchor, index, sum, () => shader.store(root, index, target.core, place));
}

/** Where a kernel writes the elements that it computes in the order of `core`. */
interface Target {
  readonly core: Node;
  readonly place: (shader: Shader, index: string) => string;
  /** Whether neighbours along the last axis stay neighbours. */
  readonly keepsLast: boolean;
}

/** A product's result may be stored in another order than it is computed in: `regionsOf` lets a transpose join it. */
function targetOf(root: Node): Target {
  let node = root;
  while (node.op === "reshape") node = node.inputs[0]!;
  if (node.op !== "transpose") return { core: root, place: (_shader, index) => index, keepsLast: true };
  const core = node.inputs[0]!;
  const { permutation = [] } = node.attributes;
  const { strides } = contiguous(node.shape);
  const layout = {
    sizes: core.shape,
    strides: core.shape.map((_, axis) => strides[permutation.indexOf(axis)]!),
    offset: 0,
  };
  return {
    core,
    place: (shader, index) => shader.let(placeOf(layout, index)),
    keepsLast: permutation.at(-1) === permutation.length - 1,
  };
}

const MATRIX_UNITS = [
  "enable subgroups;",
  "enable chromium_experimental_subgroup_matrix;",
  // Equal in 32 threads that follow each other, which the compiler cannot know of their number divided by 32.
  "diagnostic(off, chromium.subgroup_matrix_uniformity);",
];

const groupsOf = ({ batch, rows, columns }: Product, tile: Tile): number =>
  batch * Math.ceil(rows / tile.rows) * Math.ceil(columns / tile.columns);

/** The form that takes least time by estimate. */
function unitForm(product: Product): Form {
  const { batch, rows, columns, inner } = product;
  const tiles = columns <= NARROW.columns ? [NARROW] : [SMALL, LARGE];
  const most = Math.max(1, Math.min(MOST_SPLITS, Math.floor(inner / SMALL.inner)));
  const forms = tiles.flatMap((tile) =>
    times(most, (i) => {
      const splits = i + 1;
      const each = Math.ceil((groupsOf(product, tile) * splits) / CORES);
      const multiplied = Math.ceil(inner / splits / 64) * Math.max(tile.alone, tile.shared * each);
      const bytes = 8 * splits * batch * rows * columns;
      const added = splits > 1 ? SPLIT_MICROSECONDS + bytes / SPLIT_BYTES_PER_MICROSECOND : 0;
      return { tile, splits, microseconds: multiplied + added };
    }),
  );
  return forms.reduce((best, form) => (form.microseconds < best.microseconds ? form : best));
}

function scalarForm(product: Product): Form {
  const splits = Math.min(Math.floor(product.inner / LEAST_INNER), Math.floor(BUSY / groupsOf(product, SCALAR)));
  return { tile: SCALAR, splits: Math.max(1, splits) };
}

/** Adds up what the workgroups of one tile have, and joins what follows the product. */
function sumKernel(result: Result, around: Surroundings, scratch: Scratch, splits: number): Kernel {
  const { root, anchor, isQuad } = result;
  const total = sizeOf(anchor.shape);
  const width = isQuad ? 4 : 1;
  const kernel = elementwiseKernel(root, around, width, (shader, index) => {
    const part = shader.buffer(scratch, width);
    const parts = times(splits, (i) => `${part}[(${index} + ${i * total}u) / ${width}u]`);
    writeResult(shader, result, index, shader.let(parts.join(" + ")));
  });
  return { ...kernel, label: `${splits} parts of ${labelOf(root)}` };
}

function productOf(anchor: Node, around: Surroundings, tileSize: number): Product {
  const [first, second] = anchor.inputs.slice(0, 2).map((input) => viewOf(input, around.isStored)) as [
    ReturnType<typeof viewOf>,
    ReturnType<typeof viewOf>,
  ];
  const { attributes, shape, op } = anchor;
  const { stride = 1, padding: [top, , left] = [0, 0, 0, 0], enlarged = 1 } = attributes;
  const windows = (kernel: Shape, places: Shape): Windows => ({
    kernel: [kernel[0]!, kernel[1]!],
    stride,
    top,
    left,
    enlarged,
    places: [places[0]!, places[1]!],
  });
  const walked = (kernel: Node, places: Shape): Windows => windows(kernel.shape.slice(1, 3), places);
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
      const [batch = 1] = shape;
      if (attributes.channelsLast) {
        const places = shape.slice(1, 3);
        return {
          batch: 1,
          rows: batch * sizeOf(places),
          columns: shape[3]!,
          inner: sizeOf(kernel.shape.slice(1)),
          left: windowsMatrix(imageOf(first, image.shape, true), walked(kernel, places), op, tileSize),
          right: weights(kernel),
        };
      }
      const [, rows = 1, ...places] = shape;
      return {
        batch,
        rows,
        columns: sizeOf(places),
        inner: sizeOf(kernel.shape) / rows,
        left: weights(kernel),
        right: windowsMatrix(imageOf(first, image.shape), walked(kernel, places), op, tileSize),
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

/** What a `Loader` needs to know of an operand's side of a tile. */
interface Side {
  readonly rows: number;
  readonly inner: number;
  readonly buffers: number;
  /** Of the whole operand. */
  readonly allRows: number;
  readonly all: number;
}

/** How the threads of a workgroup bring one operand's part of a tile into shared memory. */
class Loader {
  /** Elements that are read at once. */
  private readonly width: 1 | 4 | 8;
  /** Elements between rows, or between places of the inner axis, whichever are not neighbours. */
  private readonly pitch: number;
  /** Whether shared memory holds vectors of four, as matrix units take them. */
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
    const isHalf = element === "f16" && shader.storage(matrix.source) === "f16";
    this.width = matrix.width === 8 && !isHalf ? 4 : matrix.width;
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
      const value = stored === this.element ? read : `${this.vector}(${read})`;
      if (valid.length === 0) shader.line(`${name}${i} = ${value};`);
      else {
        shader.line(`${name}${i} = ${this.vector}();`);
        shader.line(`if (${valid.join(" && ")}) { ${name}${i} = ${value}; }`);
      }
    }
  }

  /** Writes the registers to shared memory. */
  put(buffer: string): void {
    const { shader, name, pitch, width, isVector } = this;
    for (let i = 0; i < this.count; i++) {
      const place = shader.let(`${this.begin(buffer)}(${this.farIndex(i)}) * ${pitch}u + ${this.nearIndex}`);
      const value = `${name}${i}`;
      if (width === 8) {
        shader.line(`${name}[${place} / 4u] = bitcast<vec4<f16>>(${value}.xy);`);
        shader.line(`${name}[${place} / 4u + 1u] = bitcast<vec4<f16>>(${value}.zw);`);
      } else if (isVector) shader.line(`${name}[${place} / 4u] = ${value};`);
      else if (width === 1) shader.line(`${name}[${place}] = ${value};`);
      else for (let e = 0; e < 4; e++) shader.line(`${name}[${place} + ${e}u] = ${value}[${e}];`);
    }
  }

  /** Where an element of the tile lies in shared memory. */
  at(row: string, inner: string, buffer: string): string {
    const place = this.matrix.alongInner
      ? `(${row}) * ${this.pitch}u + ${inner}`
      : `(${inner}) * ${this.pitch}u + ${row}`;
    return `${this.begin(buffer)}${place}`;
  }

  /** The arguments of a load by matrix units of the square that begins there. */
  square(row: string, inner: string, buffer: string): string {
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

/**
 * Writes the body, and gives the number of threads.
 *
 * @param isQuad whether `write` takes four neighbours of a row at once
 */
function tileProgram(
  shader: Shader,
  product: Product,
  tile: Tile,
  splits: number,
  useUnits: boolean,
  isQuad: boolean,
  write: () => void,
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
  const side = (count: number, allRows: number): Side => ({
    rows: count,
    inner: tile.inner,
    buffers: tile.buffers,
    allRows,
    all: inner,
  });
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

  /** One element of the result, or four, behind whatever follows the product. */
  const sums = isQuad ? "vec4<f32>" : "f32";
  shader.declare([`fn finish(index: u32, sum: ${sums}, split: u32) {`, ...shader.capture(write), "}"].join("\n"));
  const finish: Finish = (row, column, sum) => {
    const conditions = [
      ...(rows % tile.rows === 0 ? [] : [`${row} < ${rows}u`]),
      ...(columns % tile.columns === 0 ? [] : [`${column} < ${columns}u`]),
    ];
    const call = `finish((sample * ${rows}u + ${row}) * ${columns}u + ${column}, ${sum}, split);`;
    shader.line(conditions.length > 0 ? `if (${conditions.join(" && ")}) { ${call} }` : call);
  };
  // Each turn reads a tile while the one before it is multiplied.
  const loop: Loop = (compute) =>
    shader.block(`for (var step = begin; step < end + ${tile.inner}u; step += ${tile.inner}u)`, () => {
      const isDouble = tile.buffers === 2;
      const buffer = isDouble ? shader.let(`step / ${tile.inner}u % 2u`) : "0u";
      const before = isDouble ? shader.let(`1u - ${buffer}`) : "0u";
      shader.block("if (step < end)", () => {
        left.fetch("step");
        right.fetch("step");
      });
      shader.block("if (step > begin)", () => compute(before));
      if (!isDouble) shader.line("workgroupBarrier();");
      shader.block("if (step < end)", () => {
        left.put(buffer);
        right.put(buffer);
      });
      shader.line("workgroupBarrier();");
    });
  if (useUnits) unitProgram(shader, tile, left, right, product, isQuad, loop, finish);
  else scalarProgram(shader, tile, left, right, loop, finish);
  return threads;
}

type Finish = (row: string, column: string, sum: string) => void;
/** @param compute multiplies the tiles in the buffer that it is given */
type Loop = (compute: (buffer: string) => void) => void;

const times = <R>(count: number, of: (i: number) => R): R[] => Array.from({ length: count }, (_, i) => of(i));

/** Each thread multiplies its rows by its columns. */
function scalarProgram(shader: Shader, tile: Tile, left: Loader, right: Loader, loop: Loop, finish: Finish): void {
  const [gridRows, gridColumns] = tile.grid;
  const [high, wide] = [tile.rows / gridRows, tile.columns / gridColumns];
  shader.line(`let own_row = thread / ${gridColumns}u * ${high}u;`);
  shader.line(`let own_column = thread % ${gridColumns}u;`);
  for (let i = 0; i < high * wide; i++) shader.line(`var sum${i} = 0f;`);
  loop((buffer) =>
    shader.block(`for (var k = 0u; k < ${tile.inner}u; k++)`, () => {
      const a = times(high, (i) => shader.let(`left[${left.at(`own_row + ${i}u`, "k", buffer)}]`));
      const b = times(wide, (j) => shader.let(`right[${right.at(`own_column + ${j * gridColumns}u`, "k", buffer)}]`));
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
  isQuad: boolean,
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
  const load = (side: "left" | "right", loader: Loader, row: string, inner: string, buffer: string): string => {
    const { alongInner } = side === "left" ? leftMatrix : rightMatrix;
    const order = alongInner === (side === "left") ? "row_major" : "col_major";
    const type = `subgroup_matrix_${side}<f16, ${SQUARE}, ${SQUARE}>`;
    return shader.let(`subgroupMatrixLoad<${type}, ${order}>(&${side}, ${loader.square(row, inner, buffer)})`);
  };
  loop((buffer) =>
    times(tile.inner / SQUARE, (k) => {
      const inner = `${k * SQUARE}u`;
      const a = times(high, (i) => load("left", left, `own_row + ${i * SQUARE}u`, inner, buffer));
      const b = times(wide, (j) => load("right", right, `own_column + ${j * SQUARE}u`, inner, buffer));
      times(high * wide, (x) =>
        shader.line(`sum${x} = subgroupMatrixMultiplyAccumulate(${a[Math.floor(x / wide)]}, ${b[x % wide]}, sum${x});`),
      );
    }),
  );
  shader.line(`let own_squares = warp * ${SQUARE * strip}u;`);
  const width = isQuad ? 4 : 1;
  times(high, (i) => {
    shader.line("workgroupBarrier();");
    times(wide, (j) =>
      shader.line(
        `subgroupMatrixStore<row_major>(&squares, own_squares + ${j * SQUARE}u, sum${i * wide + j}, ${strip}u);`,
      ),
    );
    shader.line("workgroupBarrier();");
    shader.block(`for (var e = lane * ${width}u; e < ${SQUARE * strip}u; e += ${32 * width}u)`, () => {
      const row = shader.let(`first_row + own_row + ${i * SQUARE}u + e / ${strip}u`);
      const column = shader.let(`first_column + own_column + e % ${strip}u`);
      const sums = times(width, (x) => `squares[own_squares + e + ${x}u]`);
      finish(row, column, isQuad ? `vec4<f32>(${sums.join(", ")})` : sums[0]!);
    });
  });
}
