import type { BetaSchedule, NoiseSchedule } from "../noise-schedule.js";
import type { PredictionType } from "../prediction.js";
import type { ConfigFields } from "./config-fields.js";
import { ddim } from "./ddim.js";
import { ddpm } from "./ddpm.js";
import { deis } from "./deis.js";
import { dpmSolver } from "./dpm-solver.js";
import { eulerAncestral } from "./euler-ancestral.js";
import { euler } from "./euler.js";
import { heun } from "./heun.js";
import { lcm } from "./lcm.js";
import { lms } from "./lms.js";
import type { MultistepOptions } from "./multistep.js";
import type { SamplerPlan } from "./plan.js";
import { pndm } from "./pndm.js";
import type { SigmaRange, SigmaSpacing } from "./sigmas.js";
import { tcd } from "./tcd.js";
import type { SamplerOptions, SpacedOptions, TimestepSpacing } from "./timesteps.js";
import { unipc } from "./unipc.js";

/** One scheduler class of diffusers: its defaults, and what its fields mean. */
export interface SchedulerClass {
  /** For the command line. */
  readonly shortName: string;
  readonly betas: { readonly start: number; readonly end: number; readonly kind: BetaSchedule };
  /** Whether it has `rescale_betas_zero_snr`. */
  readonly zeroSnr: boolean;
  readonly predictions: readonly (PredictionType | "original_sample")[];
  /** Whether its steps take `eta`. */
  readonly takesEta?: true;
  /** Reads the fields that are its own. Throws `UnsupportedConfigError` naming one whose value is not supported. */
  readonly read: (fields: ConfigFields, prediction: PredictionType) => Sampler;
}

type Sampler = (schedule: NoiseSchedule, options: SamplerOptions & { readonly eta?: number }) => SamplerPlan;

export type SchedulerClassName =
  | "DDIMScheduler"
  | "DDPMScheduler"
  | "PNDMScheduler"
  | "EulerDiscreteScheduler"
  | "EulerAncestralDiscreteScheduler"
  | "HeunDiscreteScheduler"
  | "LMSDiscreteScheduler"
  | "DPMSolverMultistepScheduler"
  | "DEISMultistepScheduler"
  | "UniPCMultistepScheduler"
  | "LCMScheduler"
  | "TCDScheduler";

const linearBetas = { start: 0.0001, end: 0.02, kind: "linear" } as const;
const stableDiffusionBetas = { start: 0.00085, end: 0.012, kind: "scaled_linear" } as const;
const allPredictions = ["epsilon", "v_prediction", "sample"] as const;

/** The scheduler classes that are supported, by their names in diffusers. Defaults are those of diffusers 0.27 to 0.31. */
export const schedulerClasses: Readonly<Record<SchedulerClassName, SchedulerClass>> = {
  DDIMScheduler: {
    shortName: "ddim",
    takesEta: true,
    betas: linearBetas,
    zeroSnr: true,
    predictions: allPredictions,
    read: (fields) => {
      const spaced = readSpacing(fields, "leading");
      refuseClipping(fields, true);
      const endsClean = fields.flag("set_alpha_to_one", true);
      return (schedule, options) => ddim(schedule, { ...options, ...spaced, endsClean });
    },
  },
  DDPMScheduler: {
    shortName: "ddpm",
    betas: linearBetas,
    zeroSnr: true,
    predictions: allPredictions,
    read: (fields) => {
      const spaced = readSpacing(fields, "leading");
      refuseClipping(fields, true);
      const kinds = ["fixed_small", "fixed_small_log", "fixed_large"] as const;
      const kind = fields.choice("variance_type", "fixed_small", kinds);
      const variance = kind === "fixed_large" ? "beta" : "posterior";
      return (schedule, options) => ddpm(schedule, { ...options, ...spaced, variance });
    },
  },
  PNDMScheduler: {
    shortName: "pndm",
    betas: linearBetas,
    zeroSnr: false,
    predictions: ["epsilon", "v_prediction"],
    read: (fields) => {
      const spaced = readSpacing(fields, "leading");
      const skipRungeKutta = fields.flag("skip_prk_steps");
      const endsClean = fields.flag("set_alpha_to_one");
      return (schedule, options) => pndm(schedule, { ...options, ...spaced, skipRungeKutta, endsClean });
    },
  },
  EulerDiscreteScheduler: {
    shortName: "euler",
    betas: linearBetas,
    zeroSnr: true,
    predictions: [...allPredictions, "original_sample"],
    read: (fields, prediction) => {
      const spaced = { ...readSpacing(fields, "linspace"), ...readSigmaSpacing(fields) };
      const interpolation = fields.choice("interpolation_type", "linear", ["linear", "log_linear"]);
      const timesteps = fields.choice("timestep_type", "discrete", ["discrete", "continuous"]);
      const finalSigma = readFinalSigma(fields, "zero");
      // diffusers has continuous timesteps for this prediction only, and ignores them for others.
      const continuousTimesteps = timesteps === "continuous" && prediction === "v_prediction";
      return (schedule, options) =>
        euler(schedule, { ...options, ...spaced, interpolation, continuousTimesteps, finalSigma });
    },
  },
  EulerAncestralDiscreteScheduler: {
    shortName: "euler-ancestral",
    betas: linearBetas,
    zeroSnr: true,
    predictions: ["epsilon", "v_prediction"],
    read: (fields) => {
      const spaced = readSpacing(fields, "linspace");
      return (schedule, options) => eulerAncestral(schedule, { ...options, ...spaced });
    },
  },
  HeunDiscreteScheduler: {
    shortName: "heun",
    betas: { start: 0.00085, end: 0.012, kind: "linear" },
    zeroSnr: false,
    predictions: allPredictions,
    read: (fields) => {
      const spaced = { ...readSpacing(fields, "linspace"), ...readSigmaSpacing(fields) };
      fields.choice("clip_sample", false, [false]);
      fields.withoutEffect("clip_sample_range");
      return (schedule, options) => heun(schedule, { ...options, ...spaced });
    },
  },
  LMSDiscreteScheduler: {
    shortName: "lms",
    betas: linearBetas,
    zeroSnr: false,
    predictions: allPredictions,
    read: (fields) => {
      const { sigmaSpacing, ...range } = readSigmaSpacing(fields);
      // diffusers' Karras sigmas of this class alone do not look at sigma_min and sigma_max.
      const spaced = { ...readSpacing(fields, "linspace"), sigmaSpacing, ...(sigmaSpacing !== "karras" && range) };
      return (schedule, options) => lms(schedule, { ...options, ...spaced });
    },
  },
  DPMSolverMultistepScheduler: {
    shortName: "dpm-solver",
    betas: linearBetas,
    zeroSnr: true,
    predictions: allPredictions,
    read: (fields) => {
      const multistep = readMultistep(fields, true);
      const algorithms = ["dpmsolver++", "sde-dpmsolver++", "dpmsolver", "sde-dpmsolver"] as const;
      // "deis" and the other solvers' types are what another class left behind.
      const given = fields.choice("algorithm_type", "dpmsolver++", [...algorithms, "deis"]);
      const algorithm = given === "deis" ? "dpmsolver++" : given;
      const type = fields.choice("solver_type", "midpoint", ["midpoint", "heun", "logrho", "bh1", "bh2"]);
      const solver = type === "heun" ? "heun" : "midpoint";
      if (algorithm.startsWith("sde")) fields.choice("solver_order", 2, [1, 2]);
      const finalSigma = algorithm.endsWith("++")
        ? readFinalSigma(fields, "zero")
        : fields.choice("final_sigmas_type", "zero", ["sigma_min"] as ("zero" | "sigma_min")[]);
      const eulerAtFinal = fields.flag("euler_at_final");
      const leastLogSnr = fields.number("lambda_min_clipped", true) ?? -Infinity;
      // Variances that the network learnt come with further channels, which the others do not have.
      const variances = ["none", "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"];
      fields.choice("variance_type", "none", variances);
      const own = { algorithm, solver, finalSigma, eulerAtFinal, leastLogSnr } as const;
      return (schedule, options) => dpmSolver(schedule, { ...options, ...multistep, ...own });
    },
  },
  DEISMultistepScheduler: {
    shortName: "deis",
    betas: linearBetas,
    zeroSnr: false,
    predictions: allPredictions,
    read: (fields) => {
      const multistep = readMultistep(fields, false);
      fields.choice("algorithm_type", "deis", ["deis", "dpmsolver", "dpmsolver++"]);
      fields.choice("solver_type", "logrho", ["logrho", "midpoint", "heun", "bh1", "bh2"]);
      return (schedule, options) => deis(schedule, { ...options, ...multistep });
    },
  },
  UniPCMultistepScheduler: {
    shortName: "unipc",
    betas: linearBetas,
    zeroSnr: true,
    predictions: allPredictions,
    read: (fields) => {
      const multistep = readMultistep(fields, false);
      const type = fields.choice("solver_type", "bh2", ["bh1", "bh2", "midpoint", "heun", "logrho"]);
      const variant = type === "bh1" ? "bh1" : "bh2";
      const solvesForSample = fields.flag("predict_x0", true);
      const disabledCorrections = fields.numbers("disable_corrector") ?? [];
      fields.absent("solver_p");
      // Folders without the field are of diffusers before 0.28, whose UniPC ended there.
      const finalSigma = readFinalSigma(fields, "sigma_min");
      const own = { variant, solvesForSample, disabledCorrections, finalSigma } as const;
      return (schedule, options) => unipc(schedule, { ...options, ...multistep, ...own });
    },
  },
  LCMScheduler: {
    shortName: "lcm",
    betas: stableDiffusionBetas,
    zeroSnr: true,
    predictions: allPredictions,
    read: (fields) => {
      const originalSteps = readOriginalSteps(fields);
      refuseClipping(fields, false);
      const timestepScaling = fields.number("timestep_scaling") ?? 10;
      return (schedule, options) => lcm(schedule, { ...options, originalSteps, timestepScaling });
    },
  },
  TCDScheduler: {
    shortName: "tcd",
    takesEta: true,
    betas: stableDiffusionBetas,
    zeroSnr: true,
    predictions: allPredictions,
    read: (fields) => {
      const originalSteps = readOriginalSteps(fields);
      // diffusers' class has these fields and does not use them.
      fields.withoutEffect("clip_sample", "thresholding", "timestep_scaling");
      fields.withoutEffect("clip_sample_range", "dynamic_thresholding_ratio", "sample_max_value");
      return (schedule, options) => tcd(schedule, { ...options, originalSteps });
    },
  },
};

function readSpacing(
  fields: ConfigFields,
  byDefault: TimestepSpacing,
): Required<Pick<SpacedOptions, "spacing" | "stepsOffset">> {
  return {
    spacing: fields.choice("timestep_spacing", byDefault, ["linspace", "leading", "trailing"]),
    stepsOffset: fields.number("steps_offset") ?? 0,
  };
}

/** At most one of the ways to space sigmas may be chosen. */
function readSigmaSpacing(fields: ConfigFields): SigmaRange & { readonly sigmaSpacing: SigmaSpacing } {
  const kinds = ["karras", "exponential", "beta"] as const;
  const chosen = kinds.filter((kind) => fields.flag(`use_${kind}_sigmas`));
  for (const kind of chosen.slice(1)) fields.choice(`use_${kind}_sigmas`, false, [false]);
  return { sigmaSpacing: chosen[0] ?? "timesteps", ...readSigmaRange(fields) };
}

function readSigmaRange(fields: ConfigFields): SigmaRange {
  const sigmaMin = fields.number("sigma_min");
  const sigmaMax = fields.number("sigma_max");
  return { ...(sigmaMin !== undefined && { sigmaMin }), ...(sigmaMax !== undefined && { sigmaMax }) };
}

/** Diffusers 0.31 has exponential and beta sigmas among these classes' fields, and fails with them. */
function readMultistep(fields: ConfigFields, hasLu: boolean): Omit<MultistepOptions, "steps"> {
  fields.choice("thresholding", false, [false]);
  fields.withoutEffect("dynamic_thresholding_ratio", "sample_max_value");
  fields.choice("use_exponential_sigmas", false, [false]);
  fields.choice("use_beta_sigmas", false, [false]);
  const karras = fields.flag("use_karras_sigmas");
  const lu = hasLu && fields.flag("use_lu_lambdas") && !karras;
  return {
    ...readSpacing(fields, "linspace"),
    order: fields.choice("solver_order", 2, [1, 2, 3]),
    sigmaSpacing: karras ? "karras" : lu ? "exponential" : "timesteps",
    ...(karras && readSigmaRange(fields)),
    lowerOrderFinal: fields.flag("lower_order_final", true),
  };
}

const readFinalSigma = (fields: ConfigFields, byDefault: "zero" | "sigma_min"): "zero" | "sigma_min" =>
  fields.choice("final_sigmas_type", byDefault, ["zero", "sigma_min"]);

/** Clipped predictions are not a linear function of what the network gives. */
function refuseClipping(fields: ConfigFields, byDefault: boolean): void {
  fields.choice("clip_sample", byDefault, [false]);
  fields.choice("thresholding", false, [false]);
  fields.withoutEffect("clip_sample_range", "dynamic_thresholding_ratio", "sample_max_value");
}

/** Of consistency models, whose classes have further fields that diffusers does not use. */
function readOriginalSteps(fields: ConfigFields): number {
  fields.withoutEffect("set_alpha_to_one", "steps_offset", "timestep_spacing");
  return fields.number("original_inference_steps") ?? 50;
}
