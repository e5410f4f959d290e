import type { Product } from "./gemm-operand.js";
import type { Shader } from "./shader.js";
import { times } from "./kernel.js";
import type { Tile } from "./tile-choice.js";
import { Loader, type Side } from "./tile-loader.js";

/** Rows, columns and inner axis of the fragments that subgroup matrices multiply. */
const FRAGMENT = 16;

export const SUBGROUP_MATRIX_EXTENSIONS = [
  "enable subgroups;",
  "enable chromium_experimental_subgroup_matrix;",
  // Uniform in a subgroup: the compiler cannot know it of a thread index divided by 32.
  "diagnostic(off, chromium.subgroup_matrix_uniformity);",
];

/**
 * Writes the main loop over tiles of the inner axis, and returns the threads of a workgroup.
 *
 * @param write writes the epilogue of "sum" at "index"
 * @param isQuad whether `write` takes four neighbours of a row at once
 */
export function tileProgram(
  shader: Shader,
  product: Product,
  tile: Tile,
  splitK: number,
  useSubgroupMatrices: boolean,
  isQuad: boolean,
  write: () => void,
): number {
  const { rows, columns, inner } = product;
  const [gridRows, gridColumns] = tile.grid;
  const threads = gridRows * gridColumns * (useSubgroupMatrices ? 32 : 1);
  const steps = Math.ceil(inner / tile.inner);
  const stepsEach = Math.ceil(steps / splitK);
  shader.line(`let sample = group.z / ${splitK}u;`);
  shader.line(`let split = group.z % ${splitK}u;`);
  shader.line(`let first_row = group.y * ${tile.rows}u;`);
  shader.line(`let first_column = group.x * ${tile.columns}u;`);
  shader.line(splitK > 1 ? `let begin = split * ${stepsEach * tile.inner}u;` : "const begin = 0u;");
  const end = steps * tile.inner;
  shader.line(splitK > 1 ? `let end = min(begin + ${stepsEach * tile.inner}u, ${end}u);` : `const end = ${end}u;`);
  const element = useSubgroupMatrices ? "f16" : "f32";
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

  /** Applies the epilogue to one element of the product, or to four, and stores it. */
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
  // Software pipelining: each turn loads a tile into registers while the one before it is multiplied.
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
  if (useSubgroupMatrices) subgroupMatrixProgram(shader, tile, left, right, product, isQuad, loop, finish);
  else registerProgram(shader, tile, left, right, loop, finish);
  return threads;
}

type Finish = (row: string, column: string, sum: string) => void;
/** @param compute multiplies the tiles in the buffer that it is given */
type Loop = (compute: (buffer: string) => void) => void;

/** Each thread multiplies its rows by its columns, into sums in registers. */
function registerProgram(shader: Shader, tile: Tile, left: Loader, right: Loader, loop: Loop, finish: Finish): void {
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

/** Each subgroup multiplies float16 fragments by subgroup matrices and accumulates in float32. */
function subgroupMatrixProgram(
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
  const [high, wide] = [tile.rows / gridRows / FRAGMENT, tile.columns / gridColumns / FRAGMENT];
  const warps = gridRows * gridColumns;
  const strip = wide * FRAGMENT;
  shader.declare(`var<workgroup> squares: array<f32, ${warps * FRAGMENT * strip}>;`);
  shader.line("let warp = thread / 32u;");
  shader.line("let lane = thread % 32u;");
  shader.line(`let own_row = warp / ${gridColumns}u * ${high * FRAGMENT}u;`);
  shader.line(`let own_column = warp % ${gridColumns}u * ${strip}u;`);
  for (let i = 0; i < high * wide; i++)
    shader.line(`var sum${i}: subgroup_matrix_result<f32, ${FRAGMENT}, ${FRAGMENT}>;`);
  const load = (side: "left" | "right", loader: Loader, row: string, inner: string, buffer: string): string => {
    const { alongInner } = side === "left" ? leftMatrix : rightMatrix;
    const order = alongInner === (side === "left") ? "row_major" : "col_major";
    const type = `subgroup_matrix_${side}<f16, ${FRAGMENT}, ${FRAGMENT}>`;
    return shader.let(`subgroupMatrixLoad<${type}, ${order}>(&${side}, ${loader.fragment(row, inner, buffer)})`);
  };
  loop((buffer) =>
    times(tile.inner / FRAGMENT, (k) => {
      const inner = `${k * FRAGMENT}u`;
      const a = times(high, (i) => load("left", left, `own_row + ${i * FRAGMENT}u`, inner, buffer));
      const b = times(wide, (j) => load("right", right, `own_column + ${j * FRAGMENT}u`, inner, buffer));
      times(high * wide, (x) =>
        shader.line(`sum${x} = subgroupMatrixMultiplyAccumulate(${a[Math.floor(x / wide)]}, ${b[x % wide]}, sum${x});`),
      );
    }),
  );
  shader.line(`let own_squares = warp * ${FRAGMENT * strip}u;`);
  const width = isQuad ? 4 : 1;
  times(high, (i) => {
    shader.line("workgroupBarrier();");
    times(wide, (j) =>
      shader.line(
        `subgroupMatrixStore<row_major>(&squares, own_squares + ${j * FRAGMENT}u, sum${i * wide + j}, ${strip}u);`,
      ),
    );
    shader.line("workgroupBarrier();");
    shader.block(`for (var e = lane * ${width}u; e < ${FRAGMENT * strip}u; e += ${32 * width}u)`, () => {
      const row = shader.let(`first_row + own_row + ${i * FRAGMENT}u + e / ${strip}u`);
      const column = shader.let(`first_column + own_column + e % ${strip}u`);
      const sums = times(width, (x) => `squares[own_squares + e + ${x}u]`);
      finish(row, column, isQuad ? `vec4<f32>(${sums.join(", ")})` : sums[0]!);
    });
  });
}
