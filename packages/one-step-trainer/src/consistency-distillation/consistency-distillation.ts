import { InvalidArgumentError, scope, type HostTensor, type Ops, type Program, type TensorMap } from "@sdxs/tensor";
import {
  addNoise,
  consistencySample,
  gatherNoiseLevels,
  guided,
  predictedNoise,
  predictedSample,
  type ConsistencyOptions,
} from "@sdxs/diffusion";
import { mse, pseudoHuber } from "@sdxs/losses";
import { checkPair } from "../shared/feature-comparison.js";
import type { ScoreFunction } from "../shared/plug-ins.js";

export interface ConsistencyDistillationOptions extends ConsistencyOptions {
  /** The network in training; its parameters are under "student.". */
  readonly student: ScoreFunction;
  /** The frozen diffusion model; its parameters are under "teacher.". Both predict the same. */
  readonly teacher: ScoreFunction;
  /**
   * Whose sample of the less noisy end the student learns: its own, without a gradient (default; as good or better by
   * https://arxiv.org/abs/2310.14189, Section 3.2), or that of its moving average, whose parameters lie under
   * "target.student." (LCM's).
   */
  readonly target?: "student" | "average";
  /** Context of the empty prompt [tokens, features], for guidance. Default: none, and `guidanceScale` is not read. */
  readonly unconditional?: HostTensor;
  /** k: how many timesteps the teacher's one step of DDIM skips. Default 20, LCM's of 1000. */
  readonly skippedTimesteps?: number;
  /** Default "pseudo-huber" with `c`, LCM's. */
  readonly loss?: "pseudo-huber" | "mse";
  /** Width of the pseudo-Huber loss. Default 0.001. */
  readonly c?: number;
}

/** What the program takes. */
export type ConsistencyInput = "clean" | "noise" | "timestep" | "context" | "guidanceScale";

/**
 * Latent consistency distillation (LCM, https://arxiv.org/abs/2310.04378, Algorithm 1): the finetune by which Section 3.2
 * of the SDXS paper straightens a model's trajectories before one-step training.
 *
 * From x_t the teacher goes one step of DDIM with guidance, to x_s with s = max(t - k, 0). The student's consistency
 * function must give the same sample for both: distance(f(x_t, t), f(x_s, s)), no gradient through the second. Since
 * f(x, 0) = x that sample is where the teacher's trajectory ends.
 *
 * Inputs, all float32:
 * - `clean` x_0 [batch, channels, height, width], encoded images or the teacher's samples, and `noise`, of the same shape,
 *   standard normal: these make x_t;
 * - `timestep` t [batch], whole numbers in [0, T): those of `lcm` are k - 1, 2 k - 1, ... T - 1;
 * - `context` [batch, tokens, features]; `guidanceScale` [batch], 1 is none. The scale is no input of the student.
 *
 * Outputs: `loss`, the batch's mean; `perSample` [batch]; `sample` f(x_t, t) and `target` f(x_s, s), shaped as `clean`.
 *
 * Throws `InvalidArgumentError` for a k that is no whole number of at least 1, `ShapeError` where inputs do not fit.
 *
 * @example
 * const program = consistencyDistillation({ student: network, teacher: network, schedule: noiseSchedule(), unconditional });
 */
export function consistencyDistillation(
  options: ConsistencyDistillationOptions,
): Program<ConsistencyInput, "loss" | "perSample" | "sample" | "target"> {
  const { student, teacher, schedule, prediction = "epsilon", target = "student", unconditional } = options;
  const { skippedTimesteps = 20, loss = "pseudo-huber", c = 0.001 } = options;
  if (!Number.isInteger(skippedTimesteps) || skippedTimesteps < 1) {
    throw new InvalidArgumentError(
      `consistencyDistillation: skippedTimesteps must be a whole number of at least 1, got ${skippedTimesteps}.`,
    );
  }
  return <T>(ops: Ops<T>, params: TensorMap<T>, inputs: Readonly<Record<ConsistencyInput, T>>) => {
    const { clean, noise, timestep, context, guidanceScale } = inputs;
    checkPair(ops, "consistencyDistillation", noise, clean);
    const level = gatherNoiseLevels(ops, schedule, timestep);
    const noisy = addNoise(ops, clean, noise, level); // x_t
    const consistent = (network: string, x: T, t: T): T => {
      const output = student(ops, scope(ops, params, network), { sample: x, timestep: t, context });
      return consistencySample(ops, x, output, t, options);
    };

    // The teacher's step from x_t to x_s.
    const teach = (prompt: T): T =>
      teacher(ops, scope(ops, params, "teacher"), { sample: noisy, timestep, context: prompt });
    let output = teach(context);
    if (unconditional !== undefined) {
      const empty = ops.constant(unconditional.data, [1, ...unconditional.shape]);
      const scale = ops.reshape(guidanceScale, [
        -1,
        ...ops
          .shape(clean)
          .slice(1)
          .map(() => 1),
      ]);
      output = guided(ops, teach(ops.broadcastTo(empty, ops.shape(context))), output, scale);
    }
    const next = ops.maximum(ops.sub(timestep, skippedTimesteps), 0); // s
    const nextNoisy = addNoise(
      ops,
      predictedSample(ops, prediction, noisy, output, level),
      predictedNoise(ops, prediction, noisy, output, level),
      gatherNoiseLevels(ops, schedule, next),
    );

    const sample = consistent("student", noisy, timestep);
    const follower = target === "student" ? "student" : "target.student";
    const goal = ops.stopGradient(consistent(follower, ops.stopGradient(nextNoisy), next));
    const perSample = loss === "mse" ? mse(ops, sample, goal) : pseudoHuber(ops, sample, goal, { c });
    return { loss: ops.mean(perSample), perSample, sample, target: goal };
  };
}
