import type { DType, HostData, Shape } from "./host-tensor.js";

/** Named tensors. A model's parameters are such a record under their diffusers state-dict names. */
export type TensorMap<T> = Readonly<Record<string, T>>;

/** A tensor, or a number that broadcasts as a float32 scalar. */
export type Operand<T> = T | number;

/** Zero padding of the two image axes: the same on all sides, or [top, bottom, left, right]. */
export type Padding = number | readonly [top: number, bottom: number, left: number, right: number];

export interface Conv2dOptions {
  /** Default 1, the same on both axes. */
  readonly stride?: number;
  /** Default 0. */
  readonly padding?: Padding;
}

export interface ReduceOptions {
  /** Axes to reduce, negative ones count from the end. Default: all. */
  readonly axes?: readonly number[];
  /** Keep reduced axes with size 1. Default false. */
  readonly keepDims?: boolean;
}

export interface MatmulOptions {
  /** Exchange the last two axes of the first operand. */
  readonly transposeA?: boolean;
  /** Exchange the last two axes of the second operand. */
  readonly transposeB?: boolean;
}

/**
 * The primitive operations over an opaque tensor type `T` with static shapes.
 *
 * A model or a loss is a plain function of `(ops, ...)`: given tfjs tensors it computes with tfjs,
 * given symbolic tensors it records a graph. Semantics are those of NumPy and PyTorch:
 * row-major shapes, broadcasting of binary operations, NCHW images, OIHW convolution weights.
 * Shapes are static; every function throws `ShapeError` where operands do not fit. NaN and infinities pass as IEEE 754 has it:
 * `maximum`, `relu`, `max` and `maxPool2d` of NaN are NaN, and no comparison with NaN holds.
 */
export interface Ops<T> {
  // What a tensor is.
  shape(x: T): Shape;
  dtype(x: T): DType;

  // Constants. The data must not be changed afterwards.
  constant(data: HostData, shape: Shape): T;
  scalar(value: number): T;

  // Elementwise, float32.
  neg(x: T): T;
  abs(x: T): T;
  /** -1, 0 or 1. Its gradient is zero. */
  sign(x: T): T;
  exp(x: T): T;
  /** Natural logarithm. */
  log(x: T): T;
  sqrt(x: T): T;
  square(x: T): T;
  sin(x: T): T;
  cos(x: T): T;
  tanh(x: T): T;
  /** 1 / (1 + exp(-x)). */
  sigmoid(x: T): T;
  /** max(x, 0); the gradient at 0 is 0. */
  relu(x: T): T;
  /** Gauss error function. */
  erf(x: T): T;
  /** Rounds down. Its gradient is zero. */
  floor(x: T): T;

  // Elementwise with broadcasting.
  add(a: Operand<T>, b: Operand<T>): T;
  sub(a: Operand<T>, b: Operand<T>): T;
  mul(a: Operand<T>, b: Operand<T>): T;
  div(a: Operand<T>, b: Operand<T>): T;
  /** a ** b with a number as exponent. */
  pow(a: T, exponent: number): T;
  /** The larger; where equal, the gradient goes to `a`. */
  maximum(a: Operand<T>, b: Operand<T>): T;
  /** The smaller; where equal, the gradient goes to `a`. */
  minimum(a: Operand<T>, b: Operand<T>): T;

  // Comparison with broadcasting; results are bool.
  equal(a: Operand<T>, b: Operand<T>): T;
  greater(a: Operand<T>, b: Operand<T>): T;
  less(a: Operand<T>, b: Operand<T>): T;
  /** Elements of `a` where `condition` (bool) holds, else of `b`; all three broadcast. */
  where(condition: T, a: Operand<T>, b: Operand<T>): T;

  // Reductions.
  sum(x: T, options?: ReduceOptions): T;
  mean(x: T, options?: ReduceOptions): T;
  /** Largest element. Its gradient goes, in equal shares, to the elements that attain it. */
  max(x: T, options?: ReduceOptions): T;
  /** int32 index of the first largest element along one axis, which is removed; any index where an element is NaN. */
  argMax(x: T, axis: number): T;
  /** exp(x) / sum(exp(x)) along one axis. */
  softmax(x: T, axis: number): T;

  // Linear algebra.
  /** Matrix product over the last two axes (each operand has at least two); leading axes broadcast. */
  matmul(a: T, b: T, options?: MatmulOptions): T;
  /** Cross-correlation of [N, Ci, H, W] with weights [Co, Ci, kh, kw] and an optional bias [Co]. */
  conv2d(x: T, weight: T, bias: T | undefined, options?: Conv2dOptions): T;
  /** Mean over windows of k x k with stride k; sizes must be divisible by k. [N, C, H, W]. */
  avgPool2d(x: T, k: number): T;
  /** Maximum over windows of k x k with stride k; sizes must be divisible by k. [N, C, H, W]. */
  maxPool2d(x: T, k: number): T;
  /** Nearest neighbour to a new [height, width]; source index floor(i * in / out), as PyTorch's "nearest". */
  resizeNearest(x: T, size: readonly [height: number, width: number]): T;

  // Shape.
  /** One size may be -1 and is then computed. */
  reshape(x: T, shape: Shape): T;
  /** Axis i of the result is axis `permutation[i]` of `x`. */
  transpose(x: T, permutation: readonly number[]): T;
  broadcastTo(x: T, shape: Shape): T;
  concat(xs: readonly T[], axis: number): T;
  /** Elements [begin, begin + size) along one axis. */
  slice(x: T, axis: number, begin: number, size: number): T;
  /** Zeros before and after, per axis. */
  pad(x: T, widths: readonly (readonly [before: number, after: number])[]): T;
  /** Rows of `x` along `axis` at int32 `indices` of any shape, which replaces the axis. */
  gather(x: T, indices: T, axis: number): T;
  cast(x: T, dtype: DType): T;

  // Differentiation.
  /** The value of `x`; no gradient flows through it. */
  stopGradient(x: T): T;
  /**
   * Value and gradient of a scalar function of named tensors (reverse mode). May be nested.
   * Parameters that the loss does not depend on get a gradient of zeros.
   */
  valueAndGrad(
    f: (params: TensorMap<T>) => LossAndAux<T>,
    params: TensorMap<T>,
  ): LossAndAux<T> & { readonly grads: TensorMap<T> };

  /** Kernels that an adapter offers in place of the composites of `functional.ts`. */
  readonly fused?: Partial<FusedOps<T>>;
}

export interface LossAndAux<T> {
  /** Scalar, shape []. */
  readonly loss: T;
  /** Further results; not differentiated. */
  readonly aux: TensorMap<T>;
}

/** Composites for which an adapter may have a better kernel; see the functions of the same names. */
export interface FusedOps<T> {
  silu(x: T): T;
  gelu(x: T): T;
  groupNorm(x: T, groups: number, weight: T, bias: T, epsilon: number): T;
  layerNorm(x: T, weight: T, bias: T, epsilon: number): T;
  /** [batch, heads, tokens, head] queries, keys and values; an additive mask broadcasts to the scores. */
  attention(query: T, key: T, value: T, scale: number, mask: T | undefined): T;
  /** x [..., in] times weight [out, in] transposed, plus bias [out]. */
  linear(x: T, weight: T, bias: T | undefined): T;
  /** `block()`, whose inner results are computed again for the gradient instead of being kept. */
  gradientCheckpoint(block: () => T): T;
}
