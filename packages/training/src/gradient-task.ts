import {
  HostTensor,
  InvalidArgumentError,
  SdxsError,
  mapTensors,
  select,
  withGradients,
  type AdamWOptions,
  type Backend,
  type CompiledProgram,
  type Program,
  type Schedule,
  type TensorMap,
  type TensorSpec,
  type Trainable,
} from "@sdxs/tensor";
import { NonFiniteError, nonFiniteNames } from "./non-finite.js";
import type { Metrics, TrainingTask } from "./training-task.js";

export interface GradientTaskOptions<D, In extends string = string> {
  readonly name: string;
  readonly backend: Backend<D>;
  /** Has a scalar output "loss"; its other scalar outputs become metrics. The rest is not computed. */
  readonly program: Program<In>;
  /** Parameters to train, as they begin. */
  readonly params: TensorMap<HostTensor>;
  /** Parameters of `program` that stay as they are. Default: none. */
  readonly frozen?: TensorMap<HostTensor>;
  /** Shapes of one micro-batch. */
  readonly inputs: Readonly<Record<In, TensorSpec>>;
  /** The micro-batch with this index of a step. Must give the same tensors for the same indices, each time. */
  readonly batch: (
    step: number,
    microBatch: number,
  ) => Readonly<Record<In, HostTensor>> | Promise<Readonly<Record<In, HostTensor>>>;
  /** Micro-batches whose gradients are averaged for one update. Default 1. */
  readonly microBatches?: number;
  /** Samples of one micro-batch, for progress in samples. */
  readonly batchSize?: number;
  readonly optimizer: AdamWOptions;
  /** Of the step's index. */
  readonly learningRate: Schedule;
  readonly steps: number;
  /**
   * What to do where the loss or a gradient is not finite: throw `NonFiniteError`, or leave the parameters as they are
   * and go on with the next step. Default "stop".
   */
  readonly onNonFinite?: "stop" | "skip";
  /** With "skip": throw all the same after so many skipped steps in a row. Default 10 (chosen: a spike is shorter). */
  readonly maxConsecutiveSkips?: number;
}

export interface GradientTask extends TrainingTask {
  /** The parameters as they are now, or their moving average. */
  weights(options?: { readonly averaged?: boolean }): Promise<TensorMap<HostTensor>>;
}

/**
 * Training by gradient descent on one loss: averages the gradients of the micro-batches and lets AdamW update the
 * parameters. The program is compiled once.
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
  const { backend, params, frozen = {}, inputs, microBatches = 1, maxConsecutiveSkips = 10 } = options;
  for (const [name, value] of Object.entries({ steps: options.steps, microBatches, maxConsecutiveSkips })) {
    if (!Number.isInteger(value) || value < 1) {
      throw new InvalidArgumentError(`gradientTask: ${name} must be a whole number of at least 1, got ${value}.`);
    }
  }
  if (Object.keys(params).length === 0) {
    throw new InvalidArgumentError(`gradientTask: there is nothing to train, \`params\` is empty.`);
  }
  const compiled = await backend.compile(withGradients(scalarsOf(options.program), Object.keys(params)), {
    params: mapTensors(params, ({ shape, dtype }) => ({ shape, dtype })),
    frozen,
    inputs,
  });
  const trainable = backend.trainable(params, options.optimizer);
  return new BackendGradientTask(options, compiled, trainable);
}

class BackendGradientTask<D, In extends string> implements GradientTask {
  readonly name: string;
  readonly steps: number;
  readonly samplesPerStep?: number;
  private skippedSteps = 0;
  private consecutiveSkips = 0;

  constructor(
    private readonly options: GradientTaskOptions<D, In>,
    private readonly compiled: CompiledProgram<D>,
    private readonly trainable: Trainable<D>,
  ) {
    this.name = options.name;
    this.steps = options.steps;
    if (options.batchSize !== undefined) this.samplesPerStep = options.batchSize * this.microBatches;
  }

  async step(step: number, signal?: AbortSignal): Promise<Metrics> {
    const learningRate = this.options.learningRate(step);
    const metrics = await this.accumulate(step, signal);
    const lossIsFinite = Number.isFinite(metrics["loss"]);
    if (!lossIsFinite) this.trainable.discard();
    const report = lossIsFinite ? await this.trainable.step({ learningRate }) : { finite: false, gradientNorm: NaN };
    if (report.finite) this.consecutiveSkips = 0;
    else await this.skip(step, lossIsFinite);
    const { gradientNorm } = report;
    const guard = this.options.onNonFinite === "skip" ? { skippedSteps: this.skippedSteps } : {};
    return { ...metrics, gradientNorm, learningRate, ...guard };
  }

  async state(): Promise<TensorMap<HostTensor>> {
    return { ...(await this.trainable.state()), [SKIPS]: this.skips };
  }

  restore({ [SKIPS]: skips, ...state }: TensorMap<HostTensor>): void {
    this.trainable.restore(state);
    [this.skippedSteps = 0, this.consecutiveSkips = 0] = skips?.data ?? [];
  }

  async weights({ averaged = false }: { readonly averaged?: boolean } = {}): Promise<TensorMap<HostTensor>> {
    const params = averaged ? this.trainable.averaged : this.trainable.params;
    if (params === undefined) {
      throw new InvalidArgumentError(
        `weights: the task "${this.name}" keeps no averaged parameters. Give its optimizer an \`emaDecay\`.`,
      );
    }
    return this.download(params);
  }

  async dispose(): Promise<void> {
    this.trainable.dispose();
    await this.compiled.dispose();
  }

  private get microBatches(): number {
    return this.options.microBatches ?? 1;
  }

  private get skips(): HostTensor {
    return new HostTensor([2], Int32Array.of(this.skippedSteps, this.consecutiveSkips));
  }

  /** Runs the step's micro-batches and returns the means of their scalar outputs. Accumulates all gradients or none. */
  private async accumulate(step: number, signal: AbortSignal | undefined): Promise<Metrics> {
    const means: Record<string, number> = {};
    for (let index = 0; index < this.microBatches; index++) {
      try {
        if (signal?.aborted) throw new SdxsError("ABORTED", `Step ${step} of "${this.name}" was aborted.`);
        const { scalars, gradients } = await this.run(step, index);
        this.trainable.accumulate(gradients);
        for (const [name, value] of Object.entries(scalars)) {
          means[name] = (means[name] ?? 0) + value / this.microBatches;
        }
      } catch (error) {
        this.trainable.discard();
        throw error;
      }
    }
    return means;
  }

  /** Scalar outputs, and gradients by parameter name on the device, of one micro-batch. */
  private async run(step: number, microBatch: number) {
    const inputs = await this.options.batch(step, microBatch);
    const outputs = await this.compiled.run(this.trainable.params, inputs);
    const gradients = select(outputs, "grad.");
    const others = Object.entries(outputs).filter(([name]) => !name.startsWith("grad."));
    const scalars = mapTensors(await this.download(Object.fromEntries(others)), (scalar) => scalar.item());
    // One tensor may stand under several names.
    for (const tensor of new Set(others.map(([, tensor]) => tensor))) this.options.backend.dispose(tensor);
    return { scalars, gradients };
  }

  /** Counts a step that changes nothing, or throws, as the policy says. */
  private async skip(step: number, lossIsFinite: boolean): Promise<void> {
    const { onNonFinite = "stop", maxConsecutiveSkips = 10 } = this.options;
    const stop = onNonFinite === "stop";
    if (!stop && this.consecutiveSkips + 1 < maxConsecutiveSkips) {
      this.skippedSteps++;
      this.consecutiveSkips++;
      return;
    }
    const advice = stop
      ? `Lower the learning rate, clip the gradient (clipNorm), or let onNonFinite: "skip" leave such steps out.`
      : `It is the last of ${maxConsecutiveSkips} such steps in a row (maxConsecutiveSkips). Lower the learning rate.`;
    throw new NonFiniteError(step, lossIsFinite ? await this.nonFiniteGradients(step) : ["loss"], advice);
  }

  /** Repeats the step's micro-batches, which is allowed since nothing has changed, and looks at each gradient. */
  private async nonFiniteGradients(step: number): Promise<string[]> {
    const atMost = 3; // chosen: the first ones tell where it began, the rest follows from them
    for (let index = 0; index < this.microBatches; index++) {
      const { gradients } = await this.run(step, index);
      const names = nonFiniteNames(await this.download(gradients), atMost);
      for (const tensor of new Set(Object.values(gradients))) this.options.backend.dispose(tensor);
      if (names.length > 0) return names.map((name) => `grad.${name}`);
    }
    return ["the sum of the gradients' squares"]; // each is finite: together they exceed float32
  }

  private async download(tensors: TensorMap<D>): Promise<TensorMap<HostTensor>> {
    const entries: [string, HostTensor][] = [];
    for (const [name, tensor] of Object.entries(tensors)) {
      entries.push([name, await this.options.backend.download(tensor)]);
    }
    return Object.fromEntries(entries);
  }
}

/** Name in the state of [skipped steps, skipped steps in a row], int32. */
const SKIPS = "guard.skips";

/** The program without its outputs, other than the loss, that are not scalars (shape []). */
function scalarsOf<In extends string>(program: Program<In>): Program {
  return <T>(...[ops, params, inputs]: Parameters<typeof program<T>>) =>
    Object.fromEntries(
      Object.entries<T>(program(ops, params, inputs)).filter(
        ([name, tensor]) => name === "loss" || ops.shape(tensor).length === 0,
      ),
    );
}
