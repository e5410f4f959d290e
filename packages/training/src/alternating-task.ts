import {
  InvalidArgumentError,
  prefixed,
  select,
  specsOf,
  type Backend,
  type HostTensor,
  type TensorMap,
} from "@sdxs/tensor";
import { Learner, checkCount, type LearnerOptions, type NonFiniteGuard } from "./learner.js";
import type { Metrics, TrainingTask } from "./training-task.js";

export interface AlternatingLearner<In extends string = string> extends LearnerOptions<In> {
  /** Updates in each step. Default 1. */
  readonly updates?: number;
}

export interface AlternatingTaskOptions<D, Inputs extends Readonly<Record<string, string>>> extends NonFiniteGuard {
  readonly name: string;
  readonly backend: Backend<D>;
  /** The learners, in the order of their updates within a step. `Inputs` are the input names of each. */
  readonly learners: { readonly [Name in keyof Inputs]: AlternatingLearner<Inputs[Name]> };
  readonly steps: number;
  /** Samples that one step sees, for progress in samples. */
  readonly samplesPerStep?: number;
}

export interface AlternatingTask<Name extends string> extends TrainingTask {
  /** The current parameters of one learner, or their moving average, under their names without the learner's. */
  weights(learner: Name, options?: { readonly averaged?: boolean }): Promise<TensorMap<HostTensor>>;
}

/**
 * Alternating training of several networks, each on its loss, which may depend on the others: a GAN, or the online and the
 * student model of score distillation.
 *
 * Every program gets the current parameters of all learners, named by learner and parameter ("student.conv_in.weight"); its
 * gradients update its learner only. `batch` is given the number of the learner's
 * update over the whole training, from 0.
 *
 * Metrics: those of `gradientTask` with the learner's name and a dot before them, averaged over its updates of the step, and "loss",
 * that of the last learner. A step that throws may leave the updates of the step that came before it: go on from a checkpoint.
 * One that is aborted between its updates finishes first.
 *
 * @throws InvalidArgumentError where an option is out of range; ParameterError and ShapeError as `withGradients`.
 *
 * @example
 * const task = await alternatingTask({
 *   name: "gan", backend, steps: 1000,
 *   learners: {
 *     discriminator: { program: discriminatorLoss, params: discriminator, updates: 2, ...rest },
 *     generator: { program: generatorLoss, params: generator, ...rest },
 *   },
 * });
 * await train(task);
 * const weights = await task.weights("generator");
 */
export async function alternatingTask<D, Inputs extends Readonly<Record<string, string>>>(
  options: AlternatingTaskOptions<D, Inputs>,
): Promise<AlternatingTask<keyof Inputs & string>> {
  const { name, backend, learners, steps, samplesPerStep, ...guard } = options;
  const caller = `alternatingTask "${name}"`;
  const entries = Object.entries<AlternatingLearner>(learners);
  if (entries.length === 0)
    throw new InvalidArgumentError(`${caller}: expected at least one learner, got none in \`learners\`.`);
  checkCount(caller, "steps", steps);
  for (const [who, { updates = 1 }] of entries) checkCount(caller, `${who}.updates`, updates);

  const turns: { readonly who: string; readonly updates: number; readonly learner: Learner<D> }[] = [];
  const specs = joined(entries.map(([who, { params }]) => [who, specsOf(params)]));
  const params = (): TensorMap<D> => joined(turns.map(({ who, learner }) => [who, learner.params]));
  try {
    for (const [who, { updates = 1, ...rest }] of entries) {
      const learner = await Learner.create(
        `${caller}, ${who}`,
        backend,
        { ...rest, ...guard },
        { prefix: `${who}.`, specs, params },
      );
      turns.push({ who, updates, learner });
    }
  } catch (error) {
    await disposeAll();
    throw error;
  }

  async function disposeAll(): Promise<void> {
    for (const { learner } of turns) await learner.dispose();
  }

  return {
    name,
    steps,
    ...(samplesPerStep !== undefined && { samplesPerStep }),
    async step(step, signal) {
      let metrics: Metrics = {};
      let first = true;
      for (const { who, updates, learner } of turns) {
        const reports: Metrics[] = [];
        for (let turn = 0; turn < updates; turn++) {
          // Only before the first update can an abort leave the state as it was.
          reports.push(await learner.update(step, step * updates + turn, first ? signal : undefined));
          first = false;
        }
        const means = meanMetrics(reports);
        metrics = { ...metrics, ...prefixed(means, `${who}.`), loss: means["loss"] ?? NaN };
      }
      return metrics;
    },
    async state() {
      const states: [string, TensorMap<HostTensor>][] = [];
      for (const { who, learner } of turns) states.push([who, await learner.state()]);
      return joined(states);
    },
    restore(state) {
      for (const { who, learner } of turns) learner.restore(select(state, `${who}.`));
    },
    weights(who, which) {
      const found = turns.find((turn) => turn.who === who);
      if (found) return found.learner.weights(which);
      throw new InvalidArgumentError(
        `${caller}: "${who}" is not a learner. Its learners are ${turns.map((turn) => turn.who).join(", ")}.`,
      );
    },
    dispose: disposeAll,
  };
}

/** Records in one, with their owner's name and a dot before each name. */
function joined<V>(records: readonly (readonly [owner: string, record: TensorMap<V>])[]): Record<string, V> {
  return Object.fromEntries(records.flatMap(([owner, record]) => Object.entries(prefixed(record, `${owner}.`))));
}

/** Means of metrics with the same names. */
function meanMetrics(reports: readonly Metrics[]): Metrics {
  const mean = (name: string): number =>
    reports.reduce((sum, metrics) => sum + (metrics[name] ?? NaN), 0) / reports.length;
  return Object.fromEntries(Object.keys(reports[0] ?? {}).map((name) => [name, mean(name)]));
}
