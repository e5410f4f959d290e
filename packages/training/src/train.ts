import { InvalidArgumentError, SdxsError, breather, type Signal } from "@sdxs/tensor";
import type { CheckpointStore } from "./checkpoint-store.js";
import type { MetricsSink } from "./metrics-log.js";
import { progressMeter, type Progress } from "./progress.js";
import type { Metrics, TrainingTask } from "./training-task.js";

export interface TrainOptions {
  /** Where to resume from and to save to. Default: neither. */
  readonly checkpoints?: CheckpointStore;
  /** Save after every so many steps. Default: only at the end and upon abort. */
  readonly checkpointEverySteps?: number;
  /** Save once so many seconds have passed since the last time. */
  readonly checkpointEverySeconds?: number;
  /** Stops the training after saving. */
  readonly signal?: Signal;
  /** Called after every step. */
  readonly onProgress?: (progress: Progress) => void;
  /** Gets each step's metrics. Rows after the step that a training resumes from are removed. */
  readonly log?: MetricsSink;
  /** Runs after every `everySteps` steps and after the last; its metrics get "validation." before their names. */
  readonly validate?: { readonly everySteps: number; readonly run: (step: number) => Metrics | Promise<Metrics> };
}

export interface TrainResult {
  /** Completed steps. */
  readonly step: number;
  /** Completed steps of the checkpoint that this run began with, or 0. */
  readonly resumedFrom: number;
}

/**
 * Runs a task to its last step, from the newest valid checkpoint on if there is one.
 *
 * Saves as often as the options say, at the end, and upon abort. A step that fails is not followed by a checkpoint:
 * what was saved before it stays.
 *
 * @throws SdxsError with code ABORTED once `signal` is aborted and the state is saved; its cause is the signal's reason.
 * @throws InvalidArgumentError where an option is out of range, or the checkpoint is another task's.
 *
 * @example
 * await train(task, {
 *   checkpoints: fileCheckpoints("run/checkpoints"),
 *   checkpointEverySeconds: 60,
 *   log: csvLog("run/metrics.csv"),
 *   onProgress: ({ step, steps, smoothedLoss }) => console.log(`${step}/${steps} loss ${smoothedLoss.toFixed(4)}`),
 * });
 */
export async function train(task: TrainingTask, options: TrainOptions = {}): Promise<TrainResult> {
  checkIntervals(options);
  const { checkpoints, log, signal } = options;
  const start = await resume(task, checkpoints);
  await log?.truncate(start);

  const measure = progressMeter(task, start);
  const saveIsDue = saveTimer(options);
  const breathe = breather();
  let saved = start;
  const save = async (step: number): Promise<void> => {
    if (checkpoints === undefined || step === saved) return;
    await checkpoints.save({ step, state: await task.state(), metadata: { task: task.name } });
    saved = step;
  };

  let step = start;
  while (step < task.steps) {
    const metrics = signal?.aborted ? undefined : await stepUnlessAborted(task, step, signal);
    if (metrics === undefined) {
      await save(step);
      throw aborted(task, step, checkpoints !== undefined, signal);
    }
    step++;
    const row = { step, metrics: { ...metrics, ...(await validation(options.validate, step, task.steps)) } };
    await log?.append(row);
    options.onProgress?.(measure(step, row.metrics));
    if (step < task.steps && saveIsDue(step)) await save(step);
    await breathe();
  }
  await save(step);
  return { step, resumedFrom: start };
}

/** Restores the newest checkpoint and returns its completed steps; 0 without one. */
async function resume(task: TrainingTask, checkpoints: CheckpointStore | undefined): Promise<number> {
  const checkpoint = await checkpoints?.newest();
  if (checkpoint === undefined) return 0;
  const owner = checkpoint.metadata["task"];
  if (owner !== task.name) {
    throw new InvalidArgumentError(
      `train: the newest checkpoint (step ${checkpoint.step}) belongs to the task "${owner}", this task is "${task.name}". ` +
        `Give each task a store of its own.`,
    );
  }
  await task.restore(checkpoint.state);
  return checkpoint.step;
}

/** The step's metrics; undefined where the step itself noticed the abort and left the state as it was. */
async function stepUnlessAborted(
  task: TrainingTask,
  step: number,
  signal: Signal | undefined,
): Promise<Metrics | undefined> {
  try {
    return await task.step(step, signal);
  } catch (error) {
    if (signal?.aborted && error instanceof Error && "code" in error && error.code === "ABORTED") return undefined;
    throw error;
  }
}

function aborted(task: TrainingTask, step: number, saved: boolean, signal: Signal | undefined): SdxsError {
  const advice = saved
    ? "It is saved: train again to go on from here."
    : "It was not saved: pass `checkpoints` for that.";
  return new SdxsError(
    "ABORTED",
    `Training "${task.name}" was aborted after ${step} of ${task.steps} steps. ${advice}`,
    {
      cause: signal?.reason,
    },
  );
}

async function validation(validate: TrainOptions["validate"], step: number, steps: number): Promise<Metrics> {
  if (validate === undefined || (step % validate.everySteps !== 0 && step !== steps)) return {};
  const metrics = await validate.run(step);
  return Object.fromEntries(Object.entries(metrics).map(([name, value]) => [`validation.${name}`, value]));
}

/** Says after each step whether it is time for a checkpoint. */
function saveTimer({ checkpointEverySteps, checkpointEverySeconds }: TrainOptions): (step: number) => boolean {
  let last = performance.now();
  return (step) => {
    const now = performance.now();
    const due =
      (checkpointEverySteps !== undefined && step % checkpointEverySteps === 0) ||
      (checkpointEverySeconds !== undefined && now - last >= checkpointEverySeconds * 1000);
    if (due) last = now;
    return due;
  };
}

function checkIntervals({ checkpointEverySteps, checkpointEverySeconds, validate }: TrainOptions): void {
  const intervals = { checkpointEverySteps, checkpointEverySeconds, "validate.everySteps": validate?.everySteps };
  for (const [name, value] of Object.entries(intervals)) {
    const whole = name.endsWith("Steps");
    if (value === undefined || (value > 0 && (!whole || Number.isInteger(value)))) continue;
    throw new InvalidArgumentError(
      `train: ${name} must be ${whole ? "a whole number of at least 1" : "above 0"}, got ${value}.`,
    );
  }
}
