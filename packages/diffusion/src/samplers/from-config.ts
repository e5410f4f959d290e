import { UnsupportedConfigError } from "@sdxs/tensor";
import { noiseSchedule, type BetaSchedule, type NoiseSchedule } from "../noise-schedule.js";
import type { PredictionType } from "../prediction.js";
import { ddim } from "./ddim.js";
import { ddpm } from "./ddpm.js";
import { deis } from "./deis.js";
import { dpmSolver } from "./dpm-solver.js";
import { euler } from "./euler.js";
import { lcm } from "./lcm.js";
import type { SamplerPlan } from "./plan.js";
import type { TimestepSpacing } from "./timesteps.js";

/** The fields of a diffusers `scheduler_config.json` that matter here; others are ignored. */
export interface SchedulerConfig {
  readonly _class_name: string;
  readonly num_train_timesteps?: number;
  readonly beta_start?: number;
  readonly beta_end?: number;
  readonly beta_schedule?: string;
  readonly trained_betas?: readonly number[] | null;
  readonly prediction_type?: string;
  readonly timestep_spacing?: string;
  readonly steps_offset?: number;
  readonly set_alpha_to_one?: boolean;
  readonly rescale_betas_zero_snr?: boolean;
  readonly use_karras_sigmas?: boolean | null;
  readonly final_sigmas_type?: string;
  readonly solver_order?: number;
  readonly algorithm_type?: string;
  readonly solver_type?: string;
  readonly clip_sample?: boolean;
  readonly thresholding?: boolean;
  readonly original_inference_steps?: number;
  readonly timestep_scaling?: number;
}

/** The noise schedule of a diffusers scheduler configuration. Its defaults are diffusers' own, not Stable Diffusion's. */
export function scheduleFromConfig(config: SchedulerConfig): NoiseSchedule {
  if (config.trained_betas != null) {
    throw new UnsupportedConfigError(
      "scheduleFromConfig: trained_betas are not supported; name a beta_schedule instead.",
    );
  }
  return noiseSchedule({
    kind: oneOf<BetaSchedule>("beta_schedule", config.beta_schedule ?? "linear", [
      "linear",
      "scaled_linear",
      "squaredcos_cap_v2",
    ]),
    betaStart: config.beta_start ?? 0.0001,
    betaEnd: config.beta_end ?? 0.02,
    trainSteps: config.num_train_timesteps ?? 1000,
    zeroTerminalSnr: config.rescale_betas_zero_snr ?? false,
  });
}

/** The prediction type of a diffusers scheduler configuration. */
export function predictionTypeFromConfig(config: SchedulerConfig): PredictionType {
  return oneOf<PredictionType>("prediction_type", config.prediction_type ?? "epsilon", [
    "epsilon",
    "v_prediction",
    "sample",
  ]);
}

/**
 * The plan that a diffusers pipeline with this scheduler would follow.
 *
 * Supports DDIM, DDPM, Euler, DPM-Solver++ (2M, midpoint), DEIS (order 2) and LCM.
 * Throws `UnsupportedConfigError`, naming the field, for what would give other numbers than diffusers.
 *
 * @example
 * const plan = planFromConfig(JSON.parse(await readFile("scheduler/scheduler_config.json", "utf8")), 25);
 */
export function planFromConfig(config: SchedulerConfig, steps: number): SamplerPlan {
  const schedule = scheduleFromConfig(config);
  const prediction = predictionTypeFromConfig(config);
  const spacing = (byDefault: TimestepSpacing): TimestepSpacing =>
    oneOf<TimestepSpacing>("timestep_spacing", config.timestep_spacing ?? byDefault, [
      "linspace",
      "leading",
      "trailing",
    ]);
  const stepsOffset = config.steps_offset ?? 0;
  const karras = config.use_karras_sigmas ?? false;
  oneOf("thresholding", config.thresholding ?? false, [false]);
  switch (config._class_name) {
    case "DDIMScheduler":
      oneOf("clip_sample", config.clip_sample ?? true, [false]);
      return ddim(schedule, {
        steps,
        prediction,
        spacing: spacing("leading"),
        stepsOffset,
        endsClean: config.set_alpha_to_one ?? true,
      });
    case "DDPMScheduler":
      oneOf("clip_sample", config.clip_sample ?? true, [false]);
      return ddpm(schedule, { steps, prediction, spacing: spacing("leading"), stepsOffset });
    case "EulerDiscreteScheduler":
      return euler(schedule, { steps, prediction, spacing: spacing("linspace"), stepsOffset, karras });
    case "DPMSolverMultistepScheduler":
      oneOf("algorithm_type", config.algorithm_type ?? "dpmsolver++", ["dpmsolver++"]);
      oneOf("solver_type", config.solver_type ?? "midpoint", ["midpoint"]);
      oneOf("solver_order", config.solver_order ?? 2, [2]);
      return dpmSolver(schedule, {
        steps,
        prediction,
        spacing: spacing("linspace"),
        stepsOffset,
        karras,
        finalSigma: oneOf("final_sigmas_type", config.final_sigmas_type ?? "zero", ["zero", "sigma_min"] as const),
      });
    case "DEISMultistepScheduler":
      oneOf("algorithm_type", config.algorithm_type ?? "deis", ["deis"]);
      oneOf("solver_type", config.solver_type ?? "logrho", ["logrho"]);
      oneOf("solver_order", config.solver_order ?? 2, [2]);
      return deis(schedule, { steps, prediction, spacing: spacing("linspace"), stepsOffset, karras });
    case "LCMScheduler":
      oneOf("clip_sample", config.clip_sample ?? false, [false]);
      return lcm(schedule, {
        steps,
        prediction,
        originalSteps: config.original_inference_steps ?? 50,
        timestepScaling: config.timestep_scaling ?? 10,
      });
    default:
      throw new UnsupportedConfigError(
        `planFromConfig: the scheduler "${config._class_name}" is not supported. Supported: DDIMScheduler, DDPMScheduler, ` +
          `EulerDiscreteScheduler, DPMSolverMultistepScheduler, DEISMultistepScheduler, LCMScheduler.`,
      );
  }
}

function oneOf<V extends string | number | boolean>(
  field: string,
  value: string | number | boolean,
  supported: readonly V[],
): V {
  const found = supported.find((candidate) => candidate === value);
  if (found === undefined) {
    throw new UnsupportedConfigError(
      `Scheduler configuration: ${field} is ${JSON.stringify(value)}, supported: ${supported.map((v) => JSON.stringify(v)).join(", ")}.`,
    );
  }
  return found;
}
