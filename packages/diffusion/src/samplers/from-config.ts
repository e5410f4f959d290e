import { InvalidArgumentError, UnsupportedConfigError } from "@sdxs/tensor";
import { noiseSchedule, type NoiseSchedule } from "../noise-schedule.js";
import type { PredictionType } from "../prediction.js";
import { ConfigFields } from "./config-fields.js";
import type { SamplerPlan } from "./plan.js";
import { schedulerClasses, type SchedulerClass, type SchedulerClassName } from "./scheduler-classes.js";

/** A diffusers `scheduler_config.json`: its class, the fields that most classes have, and any others. */
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
  readonly rescale_betas_zero_snr?: boolean;
  readonly [field: string]: unknown;
}

/** What a plan needs beside the configuration. */
export interface PlanOptions {
  /** For image-to-image: how much of the run is done, see `SamplerOptions.strength`. Default: all, from noise alone. */
  readonly strength?: number;
  /** How much noise DDIM and TCD add, from 0 to 1; other schedulers refuse all but 0. Default: that of diffusers' schedulers, 0 for DDIM and 0.3 for TCD. */
  readonly eta?: number;
}

/** The noise schedule of a diffusers scheduler configuration, in float32 as there; its defaults are those of its class. */
export function scheduleFromConfig(config: SchedulerConfig): NoiseSchedule {
  return readSchedule(new ConfigFields(config), schedulerClass(config) ?? anyClass);
}

/** The prediction type of a diffusers scheduler configuration. */
export function predictionTypeFromConfig(config: SchedulerConfig): PredictionType {
  return readPrediction(new ConfigFields(config), schedulerClass(config) ?? anyClass);
}

/**
 * The plan that a diffusers pipeline with this scheduler would follow.
 *
 * Throws `UnsupportedConfigError`, naming the class or the field, for what would give other numbers than diffusers, and
 * `InvalidArgumentError` for a number of steps, a strength or an eta that the sampler does not take.
 * `checkSchedulerConfig` names fields that it ignores.
 *
 * @example
 * const plan = planFromConfig(JSON.parse(await readFile("scheduler/scheduler_config.json", "utf8")), 25);
 */
export function planFromConfig(config: SchedulerConfig, steps: number, options: PlanOptions = {}): SamplerPlan {
  const { plan } = readScheduler(config);
  const { eta = 0 } = options;
  if (eta !== 0 && schedulerClass(config)?.takesEta !== true) {
    throw new InvalidArgumentError(
      `planFromConfig: eta has no effect with the ${config._class_name}, got ${eta}. DDIMScheduler and TCDScheduler take it.`,
    );
  }
  return plan({ steps, ...options });
}

/**
 * Looks a configuration through before anything is computed, or its model's weights are fetched.
 *
 * @returns warnings, each naming a field that has no effect: one that no scheduler of diffusers has, or one that asks for
 * what this class does not do, in diffusers as here
 * @throws UnsupportedConfigError for what `planFromConfig` refuses whatever the number of steps: an unsupported class,
 * prediction type or field
 *
 * @example
 * for (const warning of checkSchedulerConfig(config)) console.warn(warning);
 */
export function checkSchedulerConfig(config: SchedulerConfig): string[] {
  return readScheduler(config).warnings;
}

/**
 * Another sampler for the same model, as diffusers' `X.from_config(pipeline.scheduler.config)`: the schedule and all fields
 * stay, those that are absent become the other class's defaults.
 *
 * @param name a class of diffusers, or its short name (see `schedulerNames`)
 *
 * Throws `UnsupportedConfigError` for a name that is not known, and for fields that the other class does not take.
 *
 * @example
 * const scheduler = withScheduler(components.scheduler, "DPMSolverMultistepScheduler"); // or "dpm-solver"
 */
export function withScheduler(config: SchedulerConfig, name: string): SchedulerConfig {
  const className = schedulerNames().find(([full, short]) => name === full || name === short)?.[0];
  if (className === undefined) throw unknownScheduler(name);
  const changed = { ...config, _class_name: className };
  checkSchedulerConfig(changed);
  return changed;
}

/**
 * The configuration to save with a student that was trained to generate in one step from the last timestep (`oneStepConversion`,
 * as the trainers of `@sdxs/one-step-trainer` do it): one step of DDIM with trailing timesteps, which ends without noise. A
 * teacher's own scheduler often begins one step at timestep 1, where the student was never trained.
 *
 * @param teacher whose schedule and prediction type the student has
 *
 * @example
 * await savePipelineFolder("student", { ...teacher, unet: student, scheduler: oneStepScheduler(teacher.scheduler) });
 */
export function oneStepScheduler(teacher: SchedulerConfig): SchedulerConfig {
  const { betas, zeroSnr } = schedulerClass(teacher) ?? anyClass;
  return {
    _class_name: "DDIMScheduler",
    num_train_timesteps: teacher.num_train_timesteps ?? 1000,
    beta_start: teacher.beta_start ?? betas.start,
    beta_end: teacher.beta_end ?? betas.end,
    beta_schedule: teacher.beta_schedule ?? betas.kind,
    ...(teacher.trained_betas != null && { trained_betas: teacher.trained_betas }),
    prediction_type: predictionTypeFromConfig(teacher),
    rescale_betas_zero_snr: zeroSnr && (teacher.rescale_betas_zero_snr ?? false),
    timestep_spacing: "trailing",
    steps_offset: 1,
    set_alpha_to_one: true,
    clip_sample: false,
  };
}

/** The supported classes of diffusers with their short names. */
export function schedulerNames(): (readonly [className: SchedulerClassName, shortName: string])[] {
  return Object.entries(schedulerClasses).map(
    ([className, { shortName }]) => [className as SchedulerClassName, shortName] as const,
  );
}

function readScheduler(config: SchedulerConfig): {
  readonly plan: (options: PlanOptions & { readonly steps: number }) => SamplerPlan;
  readonly warnings: string[];
} {
  const found = schedulerClass(config);
  if (found === undefined) throw unknownScheduler(config._class_name);
  const fields = new ConfigFields(config);
  const schedule = readSchedule(fields, found);
  const prediction = readPrediction(fields, found);
  const sampler = found.read(fields, prediction);
  fields.choice("use_flow_sigmas", false, [false]); // of diffusers 0.32, for flow matching
  fields.withoutEffect("flow_shift", "use_dynamic_shifting", "time_shift_type", "sigma_min", "sigma_max");
  const warnings = fields.unread().flatMap(([name, value]) => {
    if (foreignSwitches.has(name)) {
      return value === true
        ? [`The scheduler's ${name}: true has no effect: ${config._class_name} does not have it, in diffusers neither.`]
        : [];
    }
    if (foreignFields.has(name)) return [];
    return [`The scheduler's field ${name} has no effect: no scheduler of diffusers has it.`];
  });
  return { plan: (options) => sampler(schedule, { prediction, ...options }), warnings };
}

function schedulerClass({ _class_name: name }: SchedulerConfig): SchedulerClass | undefined {
  return Object.hasOwn(schedulerClasses, name) ? schedulerClasses[name as SchedulerClassName] : undefined;
}

/** The class that is assumed for an unsupported one where only its schedule is needed. */
const anyClass: Pick<SchedulerClass, "betas" | "zeroSnr" | "predictions"> = {
  betas: { start: 0.0001, end: 0.02, kind: "linear" },
  zeroSnr: true,
  predictions: ["epsilon", "v_prediction", "sample"],
};

function readSchedule(
  fields: ConfigFields,
  { betas, zeroSnr }: Pick<SchedulerClass, "betas" | "zeroSnr">,
): NoiseSchedule {
  const trained = fields.numbers("trained_betas");
  const kind = fields.choice("beta_schedule", betas.kind, ["linear", "scaled_linear", "squaredcos_cap_v2"]);
  return noiseSchedule({
    kind,
    betaStart: fields.number("beta_start") ?? betas.start,
    betaEnd: fields.number("beta_end") ?? betas.end,
    trainSteps: fields.number("num_train_timesteps") ?? 1000,
    ...(trained && { betas: trained }),
    precision: "float32",
    zeroTerminalSnr: zeroSnr && fields.flag("rescale_betas_zero_snr"),
  });
}

function readPrediction(fields: ConfigFields, { predictions }: Pick<SchedulerClass, "predictions">): PredictionType {
  const type = fields.choice("prediction_type", "epsilon", predictions);
  return type === "original_sample" ? "sample" : type;
}

function unknownScheduler(name: string): UnsupportedConfigError {
  const supported = schedulerNames().map(([className, shortName]) => `${className} (${shortName})`);
  return new UnsupportedConfigError(`The scheduler "${name}" is not supported. Supported: ${supported.join(", ")}.`);
}

/** Fields of some classes that change numbers where they are true, and that other classes do not have. */
const foreignSwitches: ReadonlySet<string> = new Set([
  "clip_sample",
  "rescale_betas_zero_snr",
  "thresholding",
  "use_beta_sigmas",
  "use_exponential_sigmas",
  "use_karras_sigmas",
  "use_lu_lambdas",
]);

/** Fields of some classes without meaning for others: a configuration keeps them where its class was changed. */
const foreignFields: ReadonlySet<string> = new Set([
  "algorithm_type",
  "clip_sample_range",
  "disable_corrector",
  "dynamic_thresholding_ratio",
  "euler_at_final",
  "final_sigmas_type",
  "interpolation_type",
  "lambda_min_clipped",
  "lower_order_final",
  "original_inference_steps",
  "predict_x0",
  "sample_max_value",
  "set_alpha_to_one",
  "skip_prk_steps",
  "solver_order",
  "solver_p",
  "solver_type",
  "steps_offset",
  "timestep_scaling",
  "timestep_spacing",
  "timestep_type",
  "variance_type",
]);
