import type { Initializer } from "./initializers.js";
import type { DType, HostTensor, Shape } from "./host-tensor.js";
import type { Ops, TensorMap } from "./ops.js";
import type { AdamWOptions, Trainable } from "./trainable.js";

/** Shape and element type (default float32) of a tensor that is given later. */
export interface TensorSpec {
  readonly shape: Shape;
  readonly dtype?: DType;
}

/** A parameter that a model declares: its shape and its initial values. */
export interface ParameterSpec extends TensorSpec {
  readonly init: Initializer;
}

/**
 * A function of named parameters and named inputs, written once over `Ops<T>`.
 *
 * It must be pure and its control flow may depend on shapes only: an adapter may call it once,
 * with symbolic tensors, and run the recorded graph ever after.
 */
export type Program<In extends string = string, Out extends string = string> = <T>(
  ops: Ops<T>,
  params: TensorMap<T>,
  inputs: Readonly<Record<In, T>>,
) => Readonly<Record<Out, T>>;

/** Smallest and largest element. */
export type Range = readonly [least: number, greatest: number];

/** Ranges of the input and the output of a convolution or of a product with a weight. */
export interface WeightRanges {
  readonly input: Range;
  readonly output: Range;
}

/** Ranges by the names of weights. Plain data, to be kept as JSON beside a model. */
export type Calibration = Readonly<Record<string, WeightRanges>>;

export interface CompileSpec<In extends string = string> {
  /** Parameters that `run` is given each time (those in training). Default: none. */
  readonly params?: Readonly<Record<string, TensorSpec>>;
  /**
   * The parameters change seldom: `run` takes those that the compiled program's `upload` gave, which may lie in memory
   * in another order and is then faster. Default false.
   */
  readonly arrangeParams?: boolean;
  /** Parameters that never change: baked into the compiled program, which is faster. Default: none. */
  readonly frozen?: TensorMap<HostTensor>;
  /**
   * Convolutions and products with frozen weights in 8 bits, by the ranges that `calibrate` found: faster on processors, a
   * quarter of the weights' memory, and a little less exact. The onnx adapter on processors does so; others compute in float32.
   */
  readonly int8?: Calibration;
  /**
   * With "float16", convolutions, matrix products and the operations that combine their results are computed in it: half the memory and, on GPUs that
   * have it, less time. Norms' statistics, softmax, sums, inputs and results stay float32, as do parameters, which are converted
   * in each run: give weights as `frozen`. The onnx and webgpu adapters do so; others compute in float32. Default "float32".
   */
  readonly precision?: "float32" | "float16";
  readonly inputs: Readonly<Record<In, TensorSpec>>;
}

/** A program made ready for one set of shapes. */
export interface CompiledProgram<D, In extends string = string, Out extends string = string> {
  /** Milliseconds that tracing and compiling took. */
  readonly compileMs: number;
  /**
   * Uploads parameters for `run`. With `arrangeParams` they fit programs of the same function and parameters alone, for
   * whatever shapes of inputs. With `consume` the host tensors are not to be read afterwards: their memory may be freed.
   */
  upload(params: TensorMap<HostTensor>, options?: { readonly consume?: boolean }): TensorMap<D>;
  /**
   * Runs the program. Host tensors are uploaded; results stay on the device until downloaded or disposed.
   * Throws `SdxsError` with code SHAPE_MISMATCH or DTYPE_MISMATCH where a tensor does not fit the spec, and with
   * MISSING_PARAMETER or INVALID_ARGUMENT where a parameter or an input is missing. With `arrangeParams`, a parameter
   * that `upload` did not give is an INVALID_ARGUMENT.
   */
  run(
    params: TensorMap<D | HostTensor>,
    inputs: Readonly<Record<In, D | HostTensor>>,
  ): Promise<Readonly<Record<Out, D>>>;
  dispose(): Promise<void>;
}

/** Runs programs on a device, whose tensors are of type `D`. Programs do not know the backend that runs them. */
export interface Backend<D> {
  /** For messages and tables, as "onnx-cpu" or "tfjs-wasm". */
  readonly name: string;
  upload(tensor: HostTensor): D;
  download(tensor: D): Promise<HostTensor>;
  dispose(tensor: D): void;
  /** Device tensors that live now. Backends whose tensors are garbage-collected report 0. */
  memory(): { readonly tensors: number; readonly bytes: number };
  compile<In extends string, Out extends string>(
    program: Program<In, Out>,
    spec: CompileSpec<In>,
  ): Promise<CompiledProgram<D, In, Out>>;
  /** Parameters in training with their optimiser's state. Throws `InvalidArgumentError` where an option is out of range. */
  trainable(initial: TensorMap<HostTensor>, optimizer: AdamWOptions): Trainable<D>;
}
