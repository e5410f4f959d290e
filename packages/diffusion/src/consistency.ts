import { checkFields, type Ops } from "@sdxs/tensor";
import { gatherNoiseLevels, gatherTimesteps, type NoiseSchedule } from "./noise-schedule.js";
import { predictedSample, type PredictionType } from "./prediction.js";

/** Standard deviation of the data in the boundary condition of consistency models (arXiv:2303.01469, Appendix C). */
const SIGMA_DATA = 0.5;

/** Shares of the noisy and of the predicted clean sample in a consistency model's sample. */
export interface BoundaryScalings {
  readonly skip: number;
  readonly out: number;
}

/**
 * c_skip and c_out of latent consistency models (arXiv:2310.04378, Section 4.2), which make f(x, 0) = x:
 * with s = scaling t, c_skip = 0.25 / (s^2 + 0.25) and c_out = s / sqrt(s^2 + 0.25).
 *
 * @param timestepScaling default 10, that of the published models
 */
export function boundaryScalingsAt(timestep: number, timestepScaling = 10): BoundaryScalings {
  const scaled = timestep * timestepScaling;
  return {
    skip: SIGMA_DATA ** 2 / (scaled ** 2 + SIGMA_DATA ** 2),
    out: scaled / Math.hypot(scaled, SIGMA_DATA),
  };
}

export interface ConsistencyOptions {
  readonly schedule: NoiseSchedule;
  /** What the network predicts. Default "epsilon". */
  readonly prediction?: PredictionType;
  /** Factor of the timestep in the boundary condition. Default 10, that of the published models. */
  readonly timestepScaling?: number;
}

/**
 * The consistency function f(x_t, t) = c_skip(t) x_t + c_out(t) x_0(x_t, t): where the trajectory through x_t ends, by a
 * network that learnt it (arXiv:2310.04378, Equation 9).
 *
 * @param noisy x_t [batch, ...]
 * @param output the network's output for it, shaped as `noisy`
 * @param timestep whole timesteps [batch] in [0, T), int32 or float32
 * @returns shaped as `noisy`
 *
 * @example
 * const clean = consistencySample(ops, noisy, network(ops, noisy, timestep), timestep, { schedule });
 */
export function consistencySample<T>(ops: Ops<T>, noisy: T, output: T, timestep: T, options: ConsistencyOptions): T {
  checkFields("consistencySample", "options", options, ["schedule"]);
  const { schedule, prediction = "epsilon", timestepScaling } = options;
  const clean = predictedSample(ops, prediction, noisy, output, gatherNoiseLevels(ops, schedule, timestep));
  const scalings = Array.from({ length: schedule.trainSteps }, (_, t) => boundaryScalingsAt(t, timestepScaling));
  const share = (factor: keyof BoundaryScalings): T => {
    const values = gatherTimesteps(
      ops,
      scalings.map((at) => at[factor]),
      timestep,
    );
    return ops.reshape(values, [
      -1,
      ...ops
        .shape(noisy)
        .slice(1)
        .map(() => 1),
    ]);
  };
  return ops.add(ops.mul(share("skip"), noisy), ops.mul(share("out"), clean));
}
