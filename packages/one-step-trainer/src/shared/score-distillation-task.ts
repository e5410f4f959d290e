import {
  InvalidArgumentError,
  prefixed,
  type HostParams,
  type HostTensor,
  type Program,
  type TensorSpec,
} from "@sdxs/tensor";
import type { NoiseSchedule } from "@sdxs/diffusion";
import { alternatingTask, type AlternatingTask } from "@sdxs/training";
import {
  alternatingOptions,
  batchNoise,
  batchSpecs,
  computeOnce,
  type Optimisation,
  type TaskOptions,
} from "./task-options.js";

/** Options that trainings of a student with an online and an offline DM share. */
export interface ScoreDistillationTaskOptions<D> extends TaskOptions<D> {
  readonly schedule: NoiseSchedule;
  /** The initial parameters of the student and of the online DM (the teacher's weights), and the frozen ones. */
  readonly params: {
    readonly student: HostParams;
    readonly online: HostParams;
    readonly teacher: HostParams;
    /** Parameters of the student and of the online DM that are not trained, beside those above. Default: none. */
    readonly fixed?: { readonly student?: HostParams; readonly online?: HostParams };
  };
  /** Updates of the online DM for each of the student. */
  readonly onlineUpdates?: number;
  /** The lowest timestep at which scores are compared, as a share of all. Default 0.02, DMD's. */
  readonly minTimestep?: number;
  readonly optimisation: { readonly student: Optimisation; readonly online: Optimisation };
}

export interface ScoreDistillationTask extends AlternatingTask<"online" | "student"> {
  /**
   * Samples to look at after `step` updates: the student's of that update's micro-batch 0, and the predictions of the
   * online and the offline DM from them under noise, each [batch, ...sampleShape]. Compiles a separate program and
   * disposes of it.
   */
  samples(step: number): Promise<Record<Samples, HostTensor>>;
}

type Samples = "sample" | "onlineSample" | "offlineSample";

/** A program with what it is given. */
interface Turn<In extends string, Out extends string> {
  readonly program: Program<In, Out>;
  readonly inputs: Readonly<Record<In, TensorSpec>>;
  readonly batch: (update: number, microBatch: number) => Promise<Readonly<Record<In, HostTensor>>>;
}

/** The shapes of what both programs take, and the random part of it; `where` is the caller's name for messages. */
export function scoreInputs<D>(where: string, options: ScoreDistillationTaskOptions<D>) {
  const { minTimestep = 0.02, schedule } = options;
  if (!(minTimestep >= 0 && minTimestep < 1)) {
    throw new InvalidArgumentError(`${where}: minTimestep must be in [0, 1), got ${minTimestep}.`);
  }
  const { sample, context, perSample } = batchSpecs(options);
  const { normal, timesteps } = batchNoise(options, schedule);
  return {
    minTimestep,
    sample,
    perSample,
    normal,
    timesteps,
    shared: { noise: sample, context, scoreNoise: sample, timestep: perSample },
    /** The noise of the student's samples that the online DM is trained on, at any timestep. */
    online: (update: number, microBatch: number) => ({
      noise: normal("online noise", update, microBatch),
      scoreNoise: normal("online score noise", update, microBatch),
      timestep: timesteps(0, 1, "online timesteps", update, microBatch),
    }),
    /** The noise of the student's samples where scores are compared, at timesteps up to a share of all. */
    student: (highest: number, update: number, microBatch: number) => ({
      scoreNoise: normal("score noise", update, microBatch),
      timestep: timesteps(minTimestep, highest, "timesteps", update, microBatch),
    }),
  };
}

/** The online DM and the student as learners of one task, in the order of Algorithm 1. */
export async function scoreDistillationTask<D, Online extends string, Student extends string>(
  options: ScoreDistillationTaskOptions<D>,
  { online, student }: { readonly online: Turn<Online, "loss">; readonly student: Turn<Student, "loss" | Samples> },
): Promise<ScoreDistillationTask> {
  const { backend, params, microBatches = 1, onlineUpdates = 1, optimisation } = options;
  const fixed = {
    ...prefixed(params.fixed?.student ?? {}, "student."),
    ...prefixed(params.fixed?.online ?? {}, "online."),
  };
  const frozen = { ...fixed, ...prefixed(params.teacher, "teacher.") };
  const task = await alternatingTask({
    ...alternatingOptions(options),
    learners: {
      online: {
        ...online,
        params: params.online,
        frozen: fixed,
        updates: onlineUpdates,
        microBatches,
        ...optimisation.online,
      },
      student: { ...student, params: params.student, frozen, microBatches, ...optimisation.student },
    },
  });
  return {
    ...task,
    async samples(step) {
      const current: HostParams = {
        ...prefixed(await task.weights("student"), "student."),
        ...prefixed(await task.weights("online"), "online."),
        ...frozen,
      };
      const samples: Program<Student, Samples> = (ops, all, inputs) => {
        const { sample, onlineSample, offlineSample } = student.program(ops, all, inputs);
        return { sample, onlineSample, offlineSample };
      };
      return computeOnce(backend, samples, current, student.inputs, await student.batch(step, 0));
    },
  };
}
