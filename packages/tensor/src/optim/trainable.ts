import { InvalidArgumentError } from "../core/errors.js";
import { HostTensor, type Shape } from "../core/host-tensor.js";
import type { TensorMap } from "../core/ops.js";
import type { StepReport, Trainable } from "../core/trainable.js";
import { checkGradients, checkLive, checkState, type StatePart } from "./training-checks.js";

/** One update, as a layout needs it. */
export interface Update {
  readonly learningRate: number;
  /** How many gradients the sum holds: the update is by their mean. */
  readonly count: number;
  /** The number of this update, 1 for the first. */
  readonly step: number;
}

/**
 * A memory layout of parameters in training, AdamW's moments, averages and sums of gradients, with the update in that layout.
 * `Trainable` adds the rules that all layouts share.
 */
export interface ParameterLayout<D> {
  readonly shapes: ReadonlyMap<string, Shape>;
  /** The parts of its state; "averaged" only where it keeps an average. */
  readonly parts: readonly StatePart[];
  /** Live, by name. */
  readonly params: TensorMap<D>;
  readonly averaged: TensorMap<D> | undefined;
  shapeOf(gradient: D): Shape;
  /** Adds gradients to their sum, or makes them the sum where they are the first. Takes ownership. */
  accumulate(gradients: TensorMap<D>, isFirst: boolean): void;
  /** Discards the sum. */
  discard(): void;
  /**
   * One update by the sum, which it consumes, or none where the norm is not finite.
   *
   * @returns the L2 norm of the mean gradient, before clipping
   */
  update(update: Update): Promise<number>;
  /** Copies of all tensors, as "params.NAME", "m.NAME", "v.NAME" and "averaged.NAME". */
  read(): Promise<TensorMap<HostTensor>>;
  /** Replaces all of them. */
  write(tensors: TensorMap<HostTensor>): void;
  dispose(): void;
}

/** Parameters in training, in a backend's layout. */
export function trainableIn<D>(layout: ParameterLayout<D>): Trainable<D> {
  return new LaidOutTrainable(layout);
}

class LaidOutTrainable<D> implements Trainable<D> {
  private accumulated = 0;
  private completed = 0;
  private disposed = false;

  constructor(private readonly layout: ParameterLayout<D>) {}

  get params(): TensorMap<D> {
    return this.layout.params;
  }

  get averaged(): TensorMap<D> | undefined {
    return this.layout.averaged;
  }

  get steps(): number {
    return this.completed;
  }

  accumulate(gradients: TensorMap<D>): void {
    const { layout } = this;
    checkLive(this.disposed, "accumulate");
    checkGradients(layout.shapes, gradients, (gradient) => layout.shapeOf(gradient));
    layout.accumulate(gradients, this.accumulated === 0);
    this.accumulated++;
  }

  discard(): void {
    this.accumulated = 0;
    this.layout.discard();
  }

  async step({ learningRate }: { readonly learningRate: number }): Promise<StepReport> {
    checkLive(this.disposed, "step");
    const { accumulated: count } = this;
    if (count === 0) throw new InvalidArgumentError("step: no gradients were accumulated since the last step.");
    this.accumulated = 0;
    const gradientNorm = await this.layout.update({ learningRate, count, step: this.completed + 1 });
    const finite = Number.isFinite(gradientNorm);
    if (finite) this.completed++;
    return { gradientNorm, finite };
  }

  async state(): Promise<TensorMap<HostTensor>> {
    checkLive(this.disposed, "state");
    const steps = new HostTensor([], Int32Array.of(this.completed));
    return { steps, ...(await this.layout.read()) };
  }

  restore(state: TensorMap<HostTensor>): void {
    checkLive(this.disposed, "restore");
    const { steps, tensors } = checkState(this.layout.shapes, this.layout.parts, state);
    this.discard();
    this.layout.write(tensors);
    this.completed = steps;
  }

  dispose(): void {
    if (this.disposed) return;
    this.disposed = true;
    this.discard();
    this.layout.dispose();
  }
}
