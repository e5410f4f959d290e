import { prefixed, specsOf, type Backend, type HostTensor, type TensorMap } from "@sdxs/tensor";
import { Learner, checkCount, type LearnerOptions, type NonFiniteGuard } from "./learner.js";
import type { TrainingTask } from "./training-task.js";

export interface GradientTaskOptions<D, In extends string = string> extends LearnerOptions<In>, NonFiniteGuard {
  readonly name: string;
  readonly backend: Backend<D>;
  /** Samples of one micro-batch, for progress in samples. */
  readonly batchSize?: number;
  readonly steps: number;
  /**
   * Prefix under which the program also sees the parameters' moving average, as "target.": a network that follows the one
   * in training. Needs the optimizer's `emaDecay`. Default: it does not see it.
   */
  readonly averageAs?: string;
}

export interface GradientTask extends TrainingTask {
  /** The current parameters, or their moving average. */
  weights(options?: { readonly averaged?: boolean }): Promise<TensorMap<HostTensor>>;
}

/**
 * Training by gradient descent on one loss: averages the gradients of the micro-batches and lets AdamW update the
 * parameters. The program is compiled once. For several losses in turn, as of a GAN, see `alternatingTask`.
 *
 * Metrics: all scalar outputs of the program, averaged over the micro-batches; "gradientNorm", the L2 norm of the
 * gradient before clipping; "learningRate"; and with `onNonFinite: "skip"` "skippedSteps", how many were skipped so far.
 *
 * @throws InvalidArgumentError where an option is out of range; ParameterError and ShapeError as `withGradients`.
 *
 * @example
 * const task = await gradientTask({
 *   name: "line", backend, steps: 100, optimizer: {}, learningRate: constantSchedule(0.1),
 *   program: (ops, { w }, { x, y }) => ({ loss: ops.mean(ops.square(ops.sub(ops.mul(w, x), y))) }),
 *   params: { w: HostTensor.scalar(0) },
 *   inputs: { x: { shape: [8] }, y: { shape: [8] } },
 *   batch: (step) => examples(random(seed, "examples", step)),
 * });
 * await train(task);
 * const { w } = await task.weights();
 */
export async function gradientTask<D, In extends string>(options: GradientTaskOptions<D, In>): Promise<GradientTask> {
  const { name, backend, steps, batchSize, microBatches = 1 } = options;
  checkCount("gradientTask", "steps", steps);
  const { params, averageAs } = options;
  const learner: Learner<D> = await Learner.create(
    `gradientTask "${name}"`,
    backend,
    options,
    averageAs === undefined
      ? undefined
      : {
          prefix: "",
          specs: { ...specsOf(params), ...prefixed(specsOf(params), averageAs) },
          params: () => ({ ...learner.params, ...prefixed(learner.averaged, averageAs) }),
        },
  );
  return {
    name,
    steps,
    ...(batchSize !== undefined && { samplesPerStep: batchSize * microBatches }),
    step: (step, signal) => learner.update(step, step, signal),
    state: () => learner.state(),
    restore: (state) => learner.restore(state),
    weights: (which) => learner.weights(which),
    dispose: () => learner.dispose(),
  };
}
