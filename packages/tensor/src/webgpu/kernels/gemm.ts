import { sizeOf } from "../../core/host-tensor.js";
import type { GemmNode, Node, NodeOf } from "../ir/node.js";
import { convolutionProduct, filterGradientProduct } from "./convolution.js";
import { elementwiseKernel } from "./elementwise.js";
import { stridedMatrix, type Matrix, type Product } from "./gemm-operand.js";
import { BUILTINS, labelOf, times, type Kernel, type Scratch } from "./kernel.js";
import { Shader, type Surroundings } from "./shader.js";
import type { ChooseTiling, GemmProblem } from "./tile-choice.js";
import { SUBGROUP_MATRIX_EXTENSIONS, tileProgram } from "./tile-program.js";
import { broadcastLayout, contiguous, placeOf, viewOf, type Layout } from "./view.js";

/**
 * The kernels of a GEMM or a convolution with its epilogue: with split-K, a second kernel adds the partial sums and applies the
 * epilogue.
 *
 * @param useSubgroupMatrices multiply float16 by subgroup matrices, accumulating in float32
 */
export function gemmKernels(
  root: Node,
  anchor: GemmNode,
  around: Surroundings,
  useSubgroupMatrices: boolean,
  chooseTiling: ChooseTiling,
): readonly Kernel[] {
  const { tile, splitK } = chooseTiling(gemmProblem(anchor, around, useSubgroupMatrices));
  // Channels that fill tiles of one length may not fill those of another.
  const product = productOf(anchor, around, tile.inner);
  const total = product.batch * product.rows * product.columns;
  const scratch: Scratch | undefined = splitK > 1 ? { scratchBytes: 4 * splitK * total } : undefined;
  const target = targetOf(root);
  const isQuad = useSubgroupMatrices && product.columns % 4 === 0 && target.keepsLast;
  const result: Result = { root, anchor, target, isQuad };
  const shader = new Shader(around);
  const write = (): void => {
    const place = `split * ${total}u + index`;
    if (!scratch) writeResult(shader, result, "index", "sum");
    else shader.line(`result[${isQuad ? `(${place}) / 4u` : place}] = sum;`);
  };
  const threads = tileProgram(shader, product, tile, splitK, useSubgroupMatrices, isQuad, write);
  const enables = useSubgroupMatrices ? SUBGROUP_MATRIX_EXTENSIONS : [];
  const main: Kernel = {
    label: `${labelOf(anchor)} over ${product.inner}`,
    code: shader.code(scratch ? "f32" : around.storage(root), threads, BUILTINS, { enables, isQuad }),
    groups: [Math.ceil(product.columns / tile.columns), Math.ceil(product.rows / tile.rows), product.batch * splitK],
    reads: shader.reads,
    result: scratch ?? root,
  };
  return scratch ? [main, splitSumKernel(result, around, scratch, splitK)] : [main];
}

/** What the choice of a tiling depends on. */
export function gemmProblem(anchor: GemmNode, around: Surroundings, useSubgroupMatrices: boolean): GemmProblem {
  const { batch, rows, columns, inner, left, right } = productOf(anchor, around, 1);
  const operand = ({ source, width, alongInner }: Matrix): string =>
    `${around.storage(source)}x${width}${alongInner ? "" : " across"}`;
  const key = [
    `${anchor.op} ${batch}x${rows}x${columns}x${inner}`,
    operand(left),
    operand(right),
    useSubgroupMatrices ? "subgroup matrices" : "registers",
  ].join(", ");
  return { key, batch, rows, columns, inner, useSubgroupMatrices };
}

/** Epilogue and destination of a product. */
interface Result {
  readonly root: Node;
  readonly anchor: GemmNode;
  readonly target: Target;
  /** Whether four elements are written at once. */
  readonly isQuad: boolean;
}

/** Writes the epilogue at `index`; `sum` is the product's element there, or four. */
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

/** Where `fuseEpilogues` found a transposition behind the epilogue, the result is stored transposed. */
function targetOf(root: Node): Target {
  let node = root;
  while (node.op === "reshape") node = node.inputs[0];
  if (node.op !== "transpose") return { core: root, place: (_shader, index) => index, keepsLast: true };
  const [core] = node.inputs;
  const { permutation } = node.attributes;
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

/** Split-K's second kernel: adds the partial sums and applies the epilogue. */
function splitSumKernel(result: Result, around: Surroundings, scratch: Scratch, splitK: number): Kernel {
  const { root, anchor, isQuad } = result;
  const total = sizeOf(anchor.shape);
  const width = isQuad ? 4 : 1;
  const kernel = elementwiseKernel(root, around, width, (shader, index) => {
    const part = shader.buffer(scratch, width);
    const parts = times(splitK, (i) => `${part}[(${index} + ${i * total}u) / ${width}u]`);
    writeResult(shader, result, index, shader.let(parts.join(" + ")));
  });
  return { ...kernel, label: `${splitK} parts of ${labelOf(root)}` };
}

function productOf(anchor: GemmNode, around: Surroundings, tileSize: number): Product {
  switch (anchor.op) {
    case "gemm":
      return gemmProduct(anchor, around);
    case "convolution":
    case "convolutionInputGradient":
      return convolutionProduct(anchor, around, tileSize);
    case "convolutionFilterGradient":
      return filterGradientProduct(anchor, around);
  }
}

function gemmProduct({ inputs, shape, attributes }: NodeOf<"gemm">, around: Surroundings): Product {
  const [a, b] = inputs;
  const { transposeA, transposeB } = attributes;
  const [rows = 1, columns = 1] = shape.slice(-2);
  const leading = shape.slice(0, -2);
  const matrix = (operand: Node, rowsAxis: -1 | -2): Matrix => {
    const view = viewOf(operand, around.isStored);
    const layout = broadcastLayout(view.layout, [...leading, ...operand.shape.slice(-2)]);
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
    inner: a.shape.at(transposeA ? -2 : -1)!,
    left: matrix(a, transposeA ? -1 : -2),
    right: matrix(b, transposeB ? -2 : -1),
  };
}
