import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import {
  checkSchedulerConfig,
  oneStepConversion,
  oneStepFromPlan,
  oneStepScheduler,
  planFromConfig,
  predictionTypeFromConfig,
  scheduleFromConfig,
  schedulerNames,
  withScheduler,
  type SchedulerConfig,
} from "../index.js";

/** The fields of diffusers 0.31.0's classes with their defaults, written by fields.py beside it. */
const fields = JSON.parse(
  readFileSync(new URL("../../fixtures/sampler_runs/fields.json", import.meta.url), "utf8"),
) as Readonly<Record<string, Readonly<Record<string, unknown>>>>;

/** Other values than the default, one of which must have an effect. */
const others: Readonly<Record<string, readonly unknown[]>> = {
  num_train_timesteps: [500],
  beta_start: [0.0005],
  beta_end: [0.015],
  beta_schedule: ["scaled_linear", "linear"],
  trained_betas: [Array.from({ length: 1000 }, (_, t) => 0.0001 + t * 1e-5)],
  prediction_type: ["v_prediction"],
  timestep_spacing: ["trailing", "linspace"],
  steps_offset: [1],
  solver_order: [3],
  algorithm_type: ["sde-dpmsolver++"],
  solver_type: ["heun", "bh1", "other"],
  variance_type: ["fixed_large", "learned"],
  interpolation_type: ["log_linear"],
  timestep_type: ["continuous"],
  final_sigmas_type: ["sigma_min", "zero"],
  sigma_min: [0.1],
  sigma_max: [10],
  lambda_min_clipped: [-1],
  original_inference_steps: [30],
  timestep_scaling: [0.01],
  disable_corrector: [[0]],
  solver_p: [{}],
};

/** Fields without effect in diffusers: of clipping that is off, and of classes that do not use them. */
const withoutEffect: Readonly<Record<string, readonly string[]>> = {
  LCMScheduler: ["set_alpha_to_one", "steps_offset", "timestep_spacing"],
  TCDScheduler: [
    "set_alpha_to_one",
    "steps_offset",
    "timestep_spacing",
    "timestep_scaling",
    "clip_sample",
    "thresholding",
  ],
};
const ofClipping = ["clip_sample_range", "dynamic_thresholding_ratio", "sample_max_value"];

/** Configurations beside which a field has an effect, where that is not the default. */
const beside: Readonly<Record<string, object>> = {
  steps_offset: { timestep_spacing: "leading" },
  timestep_type: { prediction_type: "v_prediction" },
  rescale_betas_zero_snr: { prediction_type: "v_prediction" },
  sigma_min: { use_karras_sigmas: true },
  sigma_max: { use_karras_sigmas: true },
  lower_order_final: { final_sigmas_type: "sigma_min", solver_order: 3 },
  euler_at_final: { final_sigmas_type: "sigma_min", lower_order_final: false },
};

describe.each(Object.entries(fields))("of the %s", (className, defaults) => {
  const outcome = (config: object): string => {
    const settings = { _class_name: className, clip_sample: false, skip_prk_steps: true, ...config };
    try {
      return JSON.stringify([planFromConfig(settings, 5), checkSchedulerConfig(settings)]);
    } catch (error) {
      return (error as Error).message;
    }
  };

  it.each(Object.keys(defaults).filter((field) => !ofClipping.includes(field)))(
    "%s is read, refused by name, or has no effect in diffusers either",
    (field) => {
      const base = beside[field] ?? {};
      const values = others[field] ?? [defaults[field] !== true];
      const isOwnFlag = field === "clip_sample" || field === "skip_prk_steps";
      const before = outcome({ ...base, ...(isOwnFlag && { [field]: false }) });
      const after = values.map((value) => outcome({ ...base, [field]: isOwnFlag ? true : value }));
      const changed = after.some((result) => result !== before);
      expect(changed).toBe(!withoutEffect[className]?.includes(field));
      for (const result of after) if (!result.startsWith("[")) expect(result).toContain(field);
    },
  );

  it("all fields may be at diffusers' defaults", () => {
    expect(outcome({ ...defaults, clip_sample: false, skip_prk_steps: true }).startsWith("[")).toBe(true);
    expect(checkSchedulerConfig({ ...defaults, _class_name: className, clip_sample: false })).toEqual([]);
  });
});

const stableDiffusion = { beta_start: 0.00085, beta_end: 0.012, beta_schedule: "scaled_linear" };

describe("checkSchedulerConfig", () => {
  const euler: SchedulerConfig = {
    ...stableDiffusion,
    _class_name: "EulerDiscreteScheduler",
    _diffusers_version: "0.27.2",
  };

  it("names fields that no scheduler has, and requests that the class does not know", () => {
    expect(checkSchedulerConfig({ ...euler, use_karas_sigmas: true })).toEqual([
      "The scheduler's field use_karas_sigmas has no effect: no scheduler of diffusers has it.",
    ]);
    const deis = { ...euler, _class_name: "DEISMultistepScheduler", rescale_betas_zero_snr: true };
    expect(checkSchedulerConfig(deis)).toEqual([expect.stringMatching(/rescale_betas_zero_snr: true has no effect/)]);
    expect(scheduleFromConfig(deis).alphasCumprod[999]).toBeGreaterThan(0);
  });

  it("is silent about what another class left behind", () => {
    const left = { clip_sample: false, set_alpha_to_one: false, skip_prk_steps: true, solver_order: 2 };
    expect(checkSchedulerConfig({ ...euler, ...left })).toEqual([]);
  });

  it.each([
    [{ _class_name: "KDPM2DiscreteScheduler" }, /KDPM2DiscreteScheduler.*Supported: DDIMScheduler \(ddim\)/],
    [{ _class_name: "toString" }, /"toString" is not supported/],
    [{ ...euler, beta_start: "0.1" as unknown as number }, /beta_start is "0.1", supported: a number/],
    [{ ...euler, use_karras_sigmas: true, use_beta_sigmas: true }, /use_beta_sigmas is true/],
    [{ ...euler, beta_schedule: "sigmoid" }, /beta_schedule is "sigmoid"/],
    [{ ...euler, use_flow_sigmas: true }, /use_flow_sigmas is true/],
    [{ ...euler, _class_name: "UniPCMultistepScheduler", use_beta_sigmas: true }, /use_beta_sigmas is true/],
    [{ ...euler, _class_name: "DDPMScheduler" }, /clip_sample is absent, by default true, supported: false/],
  ] as [SchedulerConfig, RegExp][])("refuses %j by name", (config, message) => {
    expect(() => checkSchedulerConfig(config)).toThrow(message);
    expect(() => checkSchedulerConfig(config)).toThrow(expect.objectContaining({ code: "UNSUPPORTED_CONFIG" }));
  });

  it("takes Python's minus infinity, which DPM-Solver's configurations hold", () => {
    const config = { ...euler, _class_name: "DPMSolverMultistepScheduler", lambda_min_clipped: -Infinity };
    expect(checkSchedulerConfig(config)).toEqual([]);
    expect(() => checkSchedulerConfig({ ...config, lambda_min_clipped: NaN })).toThrow(/lambda_min_clipped is NaN/);
  });
});

it("planFromConfig refuses an eta where the sampler takes none, or one beyond 1", () => {
  const config = (_class_name: string) => ({ ...stableDiffusion, _class_name, clip_sample: false });
  expect(() => planFromConfig(config("EulerDiscreteScheduler"), 4, { eta: 0.5 })).toThrow(
    /eta has no effect with the Euler/,
  );
  expect(() => planFromConfig(config("DDIMScheduler"), 4, { eta: 1.5 })).toThrow(/eta must be from 0 to 1, got 1.5/);
  expect(planFromConfig(config("EulerDiscreteScheduler"), 4, { eta: 0 }).steps).toHaveLength(4);
  expect(planFromConfig(config("DDIMScheduler"), 4, { eta: 0.5 }).steps[0]!.update.noise).toBeGreaterThan(0);
});

describe("oneStepScheduler", () => {
  it.each([
    { ...stableDiffusion, _class_name: "PNDMScheduler", steps_offset: 1, skip_prk_steps: true },
    { _class_name: "LCMScheduler", prediction_type: "v_prediction" },
    { ...stableDiffusion, _class_name: "DDIMScheduler", prediction_type: "v_prediction", rescale_betas_zero_snr: true },
    { _class_name: "EulerDiscreteScheduler", num_train_timesteps: 100, trained_betas: Array<number>(100).fill(0.01) },
  ] as SchedulerConfig[])("writes what a student of %j was trained for", (teacher) => {
    const student = oneStepScheduler(teacher);
    expect(checkSchedulerConfig(student)).toEqual([]);
    const trained = oneStepConversion(scheduleFromConfig(teacher), { prediction: predictionTypeFromConfig(teacher) });
    const drawn = oneStepFromPlan(planFromConfig(student, 1));
    expect(drawn.timestep).toBe((teacher.num_train_timesteps ?? 1000) - 1);
    for (const name of ["input", "noise", "output"] as const) expect(drawn[name]).toBeCloseTo(trained[name], 10);
  });

  it("differs from the teacher's, which begins one step at timestep 1", () => {
    const teacher = { ...stableDiffusion, _class_name: "PNDMScheduler", steps_offset: 1, skip_prk_steps: true };
    expect(planFromConfig(teacher, 1).timesteps).toEqual([1]);
  });
});

describe("withScheduler", () => {
  const pndm: SchedulerConfig = {
    ...stableDiffusion,
    _class_name: "PNDMScheduler",
    steps_offset: 1,
    skip_prk_steps: true,
  };

  it("keeps the schedule and the fields, by a class's name or its short one", () => {
    for (const [className, shortName] of schedulerNames()) {
      const settings = { ...pndm, clip_sample: false };
      const changed = withScheduler(settings, className);
      expect(withScheduler(settings, shortName)).toEqual(changed);
      expect(changed).toEqual({ ...settings, _class_name: className });
      expect(planFromConfig(changed, 4).steps.length).toBeGreaterThan(3);
    }
  });

  it("names those that there are", () => {
    expect(() => withScheduler(pndm, "euler_a")).toThrow(/"euler_a" is not supported.*euler-ancestral/);
  });
});
