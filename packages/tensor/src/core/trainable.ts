import type { HostTensor } from "./host-tensor.js";
import type { TensorMap } from "./ops.js";

export interface AdamWOptions {
  /** Default 0.9. */
  readonly beta1?: number;
  /** Default 0.999. */
  readonly beta2?: number;
  /** Default 1e-8, added after the square root. */
  readonly epsilon?: number;
  /** Decoupled weight decay, multiplied by the learning rate. Default 0.01. */
  readonly weightDecay?: number;
  /** Clip the gradient to this global L2 norm. Default: no clipping. */
  readonly clipNorm?: number;
  /**
   * Keep an exponential moving average of the parameters with this decay in [0, 1). Default: none.
   * The average begins at the initial parameters and remembers about 1 / (1 - decay) steps: train for several times as many,
   * or let `emaWarmup` forget the beginning.
   */
  readonly emaDecay?: number;
  /**
   * Let the decay grow to `emaDecay` as step / (step + 9), from 0 in the first step, as diffusers' `EMAModel` does: the
   * average then follows the training from its beginning. Default false.
   */
  readonly emaWarmup?: boolean;
}

/** Parameters, optimiser state and averaged parameters, updated in place where the device allows it. */
export interface Trainable<D> {
  /** The current parameters, to pass to `run`; they change with each `step`. */
  readonly params: TensorMap<D>;
  /** Exponential moving average of the parameters, if the optimiser was given `emaDecay`. */
  readonly averaged: TensorMap<D> | undefined;
  /** Number of completed `step`s. */
  readonly steps: number;
  /**
   * Adds gradients (one per parameter, same names). Takes ownership of the tensors.
   * Throws `SdxsError` with code MISSING_PARAMETER, UNEXPECTED_PARAMETER or SHAPE_MISMATCH where they do not fit.
   */
  accumulate(gradients: TensorMap<D>): void;
  /**
   * One optimiser update by the mean of the gradients accumulated since the last one.
   * A gradient that is not finite leaves everything unchanged, is reported by `finite: false`, and is dropped.
   */
  step(options: { readonly learningRate: number }): Promise<StepReport>;
  /** Discards the gradients accumulated since the last step. */
  discard(): void;
  /** A copy of everything that the next step depends on, under "params.", "m.", "v.", "averaged." and "steps". */
  state(): Promise<TensorMap<HostTensor>>;
  /**
   * Restores a result of `state`; the next step is then the same, bit for bit. Throws `ParameterError`, and restores nothing,
   * if that is of other parameters.
   */
  restore(state: TensorMap<HostTensor>): void;
  dispose(): void;
}

export interface StepReport {
  /** L2 norm of the mean gradient over all parameters, before clipping. */
  readonly gradientNorm: number;
  readonly finite: boolean;
}
