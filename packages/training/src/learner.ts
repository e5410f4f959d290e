import {
  HostTensor,
  InvalidArgumentError,
  SdxsError,
  downloadAll,
  mapTensors,
  select,
  specsOf,
  withGradients,
  type AdamWOptions,
  type Backend,
  type CompiledProgram,
  type Program,
  type Schedule,
  type TensorMap,
  type TensorSpec,
  type Trainable,
  type Signal,
} from "@sdxs/tensor";
import { NonFiniteError, nonFiniteNames } from "./non-finite.js";
import type { Metrics } from "./training-task.js";

/** What to do where a loss or a gradient is not finite. */
export interface NonFiniteGuard {
  /**
   * Throw `NonFiniteError`, or leave the parameters unchanged and continue with the next update. Default "stop".
   */
  readonly onNonFinite?: "stop" | "skip";
  /** With "skip": throw nevertheless after this many skipped updates in a row. Default 10 (chosen: a spike is shorter). */
  readonly maxConsecutiveSkips?: number;
  /** With "skip": called with the error that "stop" would throw; finding its cause runs the update's micro-batches again. Default: not. */
  readonly onSkipped?: (error: NonFiniteError) => void;
}

/** One set of parameters in training and the loss that it minimises. */
export interface LearnerOptions<In extends string = string> {
  /** Has a scalar output "loss"; its other scalar outputs become metrics. The rest is not computed. */
  readonly program: Program<In>;
  /** Initial values of the parameters to train. */
  readonly params: TensorMap<HostTensor>;
  /** Parameters of `program` that are not trained. Default: none. */
  readonly frozen?: TensorMap<HostTensor>;
  /** Shapes of one micro-batch. */
  readonly inputs: Readonly<Record<In, TensorSpec>>;
  /** The micro-batch with this index of an update. Must give the same tensors for the same indices, each time. */
  readonly batch: (
    update: number,
    microBatch: number,
  ) => Readonly<Record<In, HostTensor>> | Promise<Readonly<Record<In, HostTensor>>>;
  /** Micro-batches whose gradients are averaged for one update. Default 1. */
  readonly microBatches?: number;
  readonly optimizer: AdamWOptions;
  /** Of the step's index. */
  readonly learningRate: Schedule;
}

/** Learners whose programs see each other's parameters. */
export interface Company<D> {
  /** Stands before this learner's parameters in every program, as "student.". */
  readonly prefix: string;
  /** All learners' parameters under their names in the programs. */
  readonly specs: TensorMap<TensorSpec>;
  /** The same with their current values. */
  readonly params: () => TensorMap<D>;
}

/**
 * Updates one set of parameters by AdamW with the gradients of one compiled program, averaged over micro-batches:
 * what `gradientTask` has one of and `alternatingTask` several.
 */
export class Learner<D> {
  private skippedUpdates = 0;
  private consecutiveSkips = 0;

  private constructor(
    private readonly name: string,
    private readonly backend: Backend<D>,
    private readonly options: LearnerOptions & NonFiniteGuard,
    private readonly company: Company<D> | undefined,
    private readonly compiled: CompiledProgram<D>,
    private readonly trainable: Trainable<D>,
  ) {}

  /** @param name for messages: what this is a learner of */
  static async create<D, In extends string>(
    name: string,
    backend: Backend<D>,
    options: LearnerOptions<In> & NonFiniteGuard,
    company?: Company<D>,
  ): Promise<Learner<D>> {
    const { program, params, frozen = {}, inputs, microBatches = 1, maxConsecutiveSkips = 10 } = options;
    for (const [option, value] of Object.entries({ microBatches, maxConsecutiveSkips }))
      checkCount(name, option, value);
    if (Object.keys(params).length === 0) {
      throw new InvalidArgumentError(`${name}: expected at least one parameter to train, got none in \`params\`.`);
    }
    const trained = Object.keys(params).map((param) => (company?.prefix ?? "") + param);
    const compiled = await backend.compile(withGradients(scalarsOf(program), trained), {
      params: company?.specs ?? specsOf(params),
      frozen,
      inputs,
    });
    const trainable = backend.trainable(params, options.optimizer);
    return new Learner(name, backend, options, company, compiled, trainable);
  }

  /** Its parameters on the device, under their own names; they change with each update. */
  get params(): TensorMap<D> {
    return this.trainable.params;
  }

  /** Their moving average on the device; throws `InvalidArgumentError` where the optimizer keeps none. */
  get averaged(): TensorMap<D> {
    const { averaged } = this.trainable;
    if (averaged !== undefined) return averaged;
    throw new InvalidArgumentError(`${this.name} keeps no averaged parameters. Give its optimizer an \`emaDecay\`.`);
  }

  /**
   * One update; one that throws changes nothing. Metrics: the program's scalar outputs, averaged over the micro-batches,
   * "gradientNorm", "learningRate", and with `onNonFinite: "skip"` "skippedSteps".
   *
   * @param step decides the learning rate
   * @param update goes to `batch`
   */
  async update(step: number, update: number, signal?: Signal): Promise<Metrics> {
    const learningRate = this.options.learningRate(step);
    const metrics = await this.accumulate(step, update, signal);
    const lossIsFinite = Number.isFinite(metrics["loss"]);
    if (!lossIsFinite) this.trainable.discard();
    const report = lossIsFinite ? await this.trainable.step({ learningRate }) : { finite: false, gradientNorm: NaN };
    if (report.finite) this.consecutiveSkips = 0;
    else await this.skip(step, update, metrics);
    const { gradientNorm } = report;
    const guard = this.options.onNonFinite === "skip" ? { skippedSteps: this.skippedUpdates } : {};
    return { ...metrics, gradientNorm, learningRate, ...guard };
  }

  async state(): Promise<TensorMap<HostTensor>> {
    return { ...(await this.trainable.state()), [SKIPS]: this.skips };
  }

  restore({ [SKIPS]: skips, ...state }: TensorMap<HostTensor>): void {
    this.trainable.restore(state);
    [this.skippedUpdates = 0, this.consecutiveSkips = 0] = skips?.data ?? [];
  }

  async weights({ averaged = false }: { readonly averaged?: boolean } = {}): Promise<TensorMap<HostTensor>> {
    return downloadAll(this.backend, averaged ? this.averaged : this.params);
  }

  async dispose(): Promise<void> {
    this.trainable.dispose();
    await this.compiled.dispose();
  }

  private get prefix(): string {
    return this.company?.prefix ?? "";
  }

  private get microBatches(): number {
    return this.options.microBatches ?? 1;
  }

  private get skips(): HostTensor {
    return new HostTensor([2], Int32Array.of(this.skippedUpdates, this.consecutiveSkips));
  }

  /** Runs the update's micro-batches and returns the means of their scalar outputs. Accumulates all gradients or none. */
  private async accumulate(step: number, update: number, signal: Signal | undefined): Promise<Metrics> {
    const means: Record<string, number> = {};
    for (let index = 0; index < this.microBatches; index++) {
      try {
        if (signal?.aborted) throw new SdxsError("ABORTED", `Step ${step} of ${this.name} was aborted.`);
        const { scalars, gradients } = await this.run(update, index);
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
  private async run(update: number, microBatch: number) {
    const inputs = await this.options.batch(update, microBatch);
    const outputs = await this.compiled.run(this.company?.params() ?? this.params, inputs);
    const gradients = select(outputs, `grad.${this.prefix}`);
    const others = Object.entries(outputs).filter(([name]) => !name.startsWith("grad."));
    const scalars = mapTensors(await downloadAll(this.backend, Object.fromEntries(others)), (scalar) => scalar.item());
    // One tensor may stand under several names.
    for (const tensor of new Set(others.map(([, tensor]) => tensor))) this.backend.dispose(tensor);
    return { scalars, gradients };
  }

  /** Counts an update that changes nothing, or throws, as the policy says. */
  private async skip(step: number, update: number, metrics: Metrics): Promise<void> {
    const { onNonFinite = "stop", maxConsecutiveSkips = 10, onSkipped } = this.options;
    const stop = onNonFinite === "stop";
    const isLast = !stop && this.consecutiveSkips + 1 >= maxConsecutiveSkips;
    const advice = stop
      ? `Lower the learning rate, clip the gradient (clipNorm), or let onNonFinite: "skip" leave such steps out.`
      : isLast
        ? `It is the last of ${maxConsecutiveSkips} such steps in a row (maxConsecutiveSkips). Lower the learning rate.`
        : `The step is skipped.`;
    const failure = async () => new NonFiniteError(step, await this.nonFiniteTensors(update, metrics), advice);
    if (stop || isLast) throw await failure();
    this.skippedUpdates++;
    this.consecutiveSkips++;
    if (onSkipped) onSkipped(await failure());
  }

  /**
   * The tensors with the NaN or infinity that prevented an update: for a loss, the program's scalar outputs and what they were
   * computed from; else the gradients, which the micro-batches give once more, as nothing has changed.
   */
  private async nonFiniteTensors(update: number, metrics: Metrics): Promise<readonly string[]> {
    const scalars = Object.keys(metrics).filter((name) => !Number.isFinite(metrics[name]));
    if (scalars.includes("loss")) return [...scalars, ...(await this.nonFiniteOperands(update))];
    for (let index = 0; index < this.microBatches; index++) {
      const { gradients } = await this.run(update, index);
      const names = nonFiniteNames(await downloadAll(this.backend, gradients), MOST_NAMES);
      for (const tensor of new Set(Object.values(gradients))) this.backend.dispose(tensor);
      if (names.length > 0) return names.map((name) => `grad.${this.prefix}${name}`);
    }
    return ["the sum of the gradients' squares"]; // each is finite: together they exceed float32
  }

  private async nonFiniteOperands(update: number): Promise<string[]> {
    const inputs = new Set<string>();
    for (let index = 0; index < this.microBatches; index++) {
      for (const name of nonFiniteNames(await this.options.batch(update, index))) inputs.add(`input.${name}`);
    }
    const params = nonFiniteNames(await downloadAll(this.backend, this.params), MOST_NAMES);
    return [...inputs, ...params.map((name) => `param.${this.prefix}${name}`)];
  }
}

/** Names of tensors in one message. Chosen: the first ones show the origin, the rest follows from them. */
const MOST_NAMES = 3;

/** Throws `InvalidArgumentError` unless the option is a whole number of at least 1. */
export function checkCount(name: string, option: string, value: number): void {
  if (Number.isInteger(value) && value >= 1) return;
  throw new InvalidArgumentError(`${name}: ${option} must be a whole number of at least 1, got ${value}.`);
}

/** Name in the state of [skipped updates, skipped updates in a row], int32. */
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
