import type { Metrics } from "./training-task.js";

/** The progress of a training after a step. */
export interface Progress {
  /** Completed steps, those before a resume included. */
  readonly step: number;
  readonly steps: number;
  /** Samples seen so far, where the task says how many a step has. */
  readonly samples?: number;
  /** Steps per second since this run began, validation and checkpoints included. */
  readonly rate: number;
  /** Since this run began. */
  readonly elapsedMs: number;
  /** At this rate. */
  readonly remainingMs: number;
  readonly metrics: Metrics;
  /** Mean of the losses so far with exponentially falling weights; NaN while none was finite. */
  readonly smoothedLoss: number;
}

/** The weight of each older loss. Chosen: a memory of about 50 steps shows a trend through the noise of batches. */
const SMOOTHING = 0.98;

/**
 * Exponential moving average that is not biased towards its beginning (Adam's correction, arXiv:1412.6980 section 3).
 * Values that are not finite are left out.
 */
export function smoother(decay: number): (value: number) => number {
  let sum = 0;
  let weight = 0;
  return (value) => {
    if (Number.isFinite(value)) {
      sum = decay * sum + (1 - decay) * value;
      weight = decay * weight + (1 - decay);
    }
    return sum / weight;
  };
}

/** Turns steps' metrics into progress. `start` steps were completed before; the clock starts now. */
export function progressMeter(
  task: { readonly steps: number; readonly samplesPerStep?: number },
  start: number,
): (step: number, metrics: Metrics) => Progress {
  const startMs = performance.now();
  const smooth = smoother(SMOOTHING);
  return (step, metrics) => {
    const elapsedMs = performance.now() - startMs;
    const msPerStep = elapsedMs / (step - start);
    return {
      step,
      steps: task.steps,
      ...(task.samplesPerStep !== undefined && { samples: step * task.samplesPerStep }),
      rate: 1000 / msPerStep,
      elapsedMs,
      remainingMs: (task.steps - step) * msPerStep,
      metrics,
      smoothedLoss: smooth(metrics["loss"] ?? NaN),
    };
  };
}
