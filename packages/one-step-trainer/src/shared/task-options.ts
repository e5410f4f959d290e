import {
  HostTensor,
  downloadAll,
  random,
  type AdamWOptions,
  type Backend,
  type HostParams,
  type Program,
  type Schedule,
  type Shape,
  type TensorSpec,
} from "@sdxs/tensor";
import type { NoiseSchedule } from "@sdxs/diffusion";
import type { NonFiniteGuard } from "@sdxs/training";

/** A noise, the teacher's sample of it, and the prompt's context, for each sample of a batch. */
export interface PairBatch {
  /** z [batch, ...sampleShape] */
  readonly noise: HostTensor;
  /** psi(x_phi(z)), of the same shape. */
  readonly target: HostTensor;
  /** [batch, ...contextShape] */
  readonly context: HostTensor;
}

/** A pair with its condition. */
export interface Triplet extends PairBatch {
  /** [batch, ...conditionShape] */
  readonly condition: HostTensor;
}

/** Optimiser and learning rate of one of the models. */
export interface Optimisation {
  readonly optimizer: AdamWOptions;
  /** Of the step's index. */
  readonly learningRate: Schedule;
}

/** Options of every alternating training of two models. */
export interface TaskOptions<D> extends NonFiniteGuard {
  readonly name: string;
  readonly backend: Backend<D>;
  /** Seed of all random numbers. */
  readonly seed: number | string;
  /** Updates of the student. */
  readonly steps: number;
  /** Shape of one sample [channels, height, width] and of one context [tokens, features]. */
  readonly sampleShape: Shape;
  readonly contextShape: Shape;
  /** Samples of one micro-batch. */
  readonly batchSize: number;
  /** Micro-batches whose gradients are averaged for one update, of both models. Default 1. */
  readonly microBatches?: number;
}

/** The options that are passed on to `alternatingTask`. */
export function alternatingOptions<D>(options: TaskOptions<D>) {
  const { name, backend, steps, batchSize, microBatches = 1, onNonFinite, maxConsecutiveSkips } = options;
  return {
    name,
    backend,
    steps,
    samplesPerStep: batchSize * microBatches,
    ...(onNonFinite !== undefined && { onNonFinite }),
    ...(maxConsecutiveSkips !== undefined && { maxConsecutiveSkips }),
  };
}

/** Shapes of one micro-batch. */
export function batchSpecs<D>({ batchSize, sampleShape, contextShape }: TaskOptions<D>) {
  return {
    sample: { shape: [batchSize, ...sampleShape] },
    context: { shape: [batchSize, ...contextShape] },
    perSample: { shape: [batchSize] },
  };
}

/** Noise and timesteps: the same for the same purpose, which ends with the indices of update and micro-batch. */
export function batchNoise<D>(
  { seed, batchSize, sampleShape }: TaskOptions<D>,
  { trainSteps }: Pick<NoiseSchedule, "trainSteps">,
) {
  return {
    /** Standard normal [batch, ...sampleShape]. */
    normal: (...purpose: (string | number)[]): HostTensor =>
      random(seed, ...purpose).normal([batchSize, ...sampleShape]),
    /** Whole numbers [batch] between two shares of the schedule's timesteps. */
    timesteps: (from: number, to: number, ...purpose: (string | number)[]): HostTensor => {
      const first = Math.round(from * trainSteps);
      const last = Math.max(first + 1, Math.round(to * trainSteps));
      const timesteps = random(seed, ...purpose).integers([batchSize], first, last);
      return new HostTensor([batchSize], Float32Array.from(timesteps.data));
    },
  };
}

/** Compiles a program, runs it once on the current parameters, and returns its outputs in host memory. */
export async function computeOnce<D, In extends string, Out extends string>(
  backend: Backend<D>,
  program: Program<In, Out>,
  params: HostParams,
  specs: Readonly<Record<In, TensorSpec>>,
  inputs: Readonly<Record<In, HostTensor>>,
): Promise<Record<Out, HostTensor>> {
  const compiled = await backend.compile(program, { frozen: params, inputs: specs });
  try {
    const outputs = await compiled.run({}, inputs);
    const host = await downloadAll(backend, outputs);
    for (const tensor of new Set(Object.values<D>(outputs))) backend.dispose(tensor);
    return host;
  } finally {
    await compiled.dispose();
  }
}
