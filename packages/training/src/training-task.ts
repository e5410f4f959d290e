import type { HostTensor, TensorMap, Signal } from "@sdxs/tensor";

/** Named numbers of one step, as { loss: 0.25, gradientNorm: 1.5 }. */
export type Metrics = Readonly<Record<string, number>>;

/**
 * What `train` runs: a method of training with its state, without the loop around it.
 *
 * The next step depends on the state and the step's index alone: randomness derives from a seed and the index, and
 * nothing reads a clock. So a run that is killed and resumed ends with the same weights, bit for bit.
 */
export interface TrainingTask {
  /** Stored with each checkpoint: a task resumes only from its own checkpoints. */
  readonly name: string;
  /** How many steps make the whole training. */
  readonly steps: number;
  /** Samples that one step sees, for progress in samples. */
  readonly samplesPerStep?: number;
  /**
   * Runs the step with this index, 0 for the first. A step that throws leaves the state as it was before.
   * A step may look at `signal` where it takes long; it then throws `SdxsError` with code ABORTED.
   */
  step(step: number, signal?: Signal): Promise<Metrics>;
  /** A copy of everything that the next step depends on. */
  state(): Promise<TensorMap<HostTensor>>;
  /** Takes back what `state` gave, perhaps in another process. */
  restore(state: TensorMap<HostTensor>): void | Promise<void>;
  dispose(): void | Promise<void>;
}
