import type { SchedulerConfig } from "@sdxs/diffusion";

/** A small random pipeline that diffusers makes and saves; diffusers_pipelines.py has the families. */
export interface ComparedPipeline {
  readonly name: string;
  readonly family: string;
  readonly scheduler: SchedulerConfig;
  /** Further fields of its model_index.json. */
  readonly settings?: Readonly<Record<string, unknown>>;
  /** Both sides draw from the folder that is saved here, with the weights in this type. Default: from that of diffusers. */
  readonly saved?: "F32" | "F16";
}

/** One call of a pipeline. */
export interface ComparedCase {
  readonly name: string;
  readonly pipeline: string;
  readonly prompts: readonly string[];
  readonly negativePrompt?: string;
  readonly steps: number;
  readonly guidanceScale: number;
  /** How much noise DDIM and TCD add. */
  readonly eta?: number;
  readonly width: number;
  readonly height: number;
  /** With it, the case is image-to-image. */
  readonly strength?: number;
  /** The scale of each ControlNet. */
  readonly controls: readonly number[];
}

/** The small autoencoders halve pictures once. */
export const PIXELS_PER_LATENT = 2;

/** Stable Diffusion's noise schedule. */
const SD = { beta_schedule: "scaled_linear", beta_start: 0.00085, beta_end: 0.012, num_train_timesteps: 1000 };
const OFFSET = { ...SD, steps_offset: 1 };
const PNDM = { _class_name: "PNDMScheduler", ...OFFSET, skip_prk_steps: true, set_alpha_to_one: false };
const DDIM = { _class_name: "DDIMScheduler", ...OFFSET, clip_sample: false, set_alpha_to_one: false };
const EULER = { _class_name: "EulerDiscreteScheduler", ...OFFSET, timestep_spacing: "leading" };
const LCM = { _class_name: "LCMScheduler", ...SD };
const TURBO = { ...SD, timestep_spacing: "trailing" };
const VELOCITY = { prediction_type: "v_prediction" };

/** As published pipelines have them. */
const published: readonly ComparedPipeline[] = [
  { name: "sd15", family: "sd15", scheduler: PNDM },
  { name: "sd21", family: "sd21", scheduler: PNDM },
  { name: "sd21-v", family: "sd21-v", scheduler: { ...DDIM, ...VELOCITY } },
  { name: "sdxl", family: "sdxl", scheduler: EULER },
  { name: "sdxs", family: "sdxs", scheduler: { _class_name: "DEISMultistepScheduler", ...SD } },
  { name: "sdxs-0.9", family: "sdxs-0.9", scheduler: { _class_name: "EulerDiscreteScheduler", ...TURBO } },
  { name: "lcm", family: "lcm", scheduler: LCM },
  { name: "sd-turbo", family: "sd21", scheduler: { _class_name: "EulerDiscreteScheduler", ...TURBO } },
  { name: "sdxl-turbo", family: "sdxl", scheduler: { _class_name: "EulerAncestralDiscreteScheduler", ...TURBO } },
];

/** Settings that change what a pipeline draws. */
const settings: readonly ComparedPipeline[] = [
  // A configuration from before "steps_offset" and "clip_sample", which diffusers' pipeline changes when it opens it.
  { name: "sd15-early", family: "sd15", scheduler: { _class_name: "DDIMScheduler", ...SD, set_alpha_to_one: false } },
  { name: "sdxl-empty", family: "sdxl", scheduler: EULER, settings: { force_zeros_for_empty_prompt: false } },
];

const controlled: readonly ComparedPipeline[] = [
  { name: "sd15-control", family: "sd15-control", scheduler: DDIM },
  { name: "sd15-controls", family: "sd15-controls", scheduler: DDIM },
  { name: "sd15-pooled", family: "sd15-pooled", scheduler: DDIM },
  { name: "sdxl-control", family: "sdxl-control", scheduler: EULER },
];
/** By the families' names. */
const scales: Readonly<Record<string, readonly number[]>> = {
  "sd15-control": [0.7],
  "sd15-controls": [1, 0.5],
  "sd15-pooled": [1],
  "sdxl-control": [0.7],
};

/** What is loaded and saved here, which diffusers then opens. */
const saved: readonly ComparedPipeline[] = [...published, ...controlled].map((pipeline, index) => ({
  ...pipeline,
  name: `${pipeline.name}-saved`,
  saved: index % 2 === 0 ? "F32" : "F16",
}));

const sampler = (
  name: string,
  className: string,
  fields: Omit<SchedulerConfig, "_class_name"> = {},
): ComparedPipeline => {
  const family = fields.prediction_type === "v_prediction" ? "sd21-v" : "sd15";
  return { name, family, scheduler: { _class_name: className, ...OFFSET, ...fields } };
};
const karras = { use_karras_sigmas: true };
/** Every class, and the settings that published pipelines have. */
const samplers: readonly ComparedPipeline[] = [
  sampler("ddim", "DDIMScheduler", { clip_sample: false, set_alpha_to_one: false }),
  sampler("ddim-trailing-v", "DDIMScheduler", { clip_sample: false, timestep_spacing: "trailing", ...VELOCITY }),
  sampler("ddim-zero-snr-v", "DDIMScheduler", {
    clip_sample: false,
    timestep_spacing: "trailing",
    rescale_betas_zero_snr: true,
    ...VELOCITY,
  }),
  sampler("ddpm", "DDPMScheduler", { clip_sample: false }),
  sampler("euler", "EulerDiscreteScheduler", { timestep_spacing: "linspace" }),
  sampler("euler-karras", "EulerDiscreteScheduler", { timestep_spacing: "leading", ...karras }),
  sampler("euler-v", "EulerDiscreteScheduler", { timestep_spacing: "trailing", ...VELOCITY }),
  sampler("euler-ancestral", "EulerAncestralDiscreteScheduler", { timestep_spacing: "leading" }),
  sampler("euler-ancestral-v", "EulerAncestralDiscreteScheduler", { timestep_spacing: "trailing", ...VELOCITY }),
  sampler("heun", "HeunDiscreteScheduler", { timestep_spacing: "leading" }),
  sampler("heun-karras", "HeunDiscreteScheduler", { timestep_spacing: "linspace", ...karras }),
  sampler("lms", "LMSDiscreteScheduler", { timestep_spacing: "linspace" }),
  sampler("dpm-solver++", "DPMSolverMultistepScheduler"),
  sampler("dpm-solver++-karras", "DPMSolverMultistepScheduler", { timestep_spacing: "leading", ...karras }),
  sampler("dpm-solver++-order-1", "DPMSolverMultistepScheduler", { solver_order: 1 }),
  sampler("dpm-solver++-order-3", "DPMSolverMultistepScheduler", { solver_order: 3 }),
  sampler("dpm-solver++-heun", "DPMSolverMultistepScheduler", { solver_type: "heun" }),
  sampler("dpm-solver++-v", "DPMSolverMultistepScheduler", VELOCITY),
  sampler("sde-dpm-solver++", "DPMSolverMultistepScheduler", { algorithm_type: "sde-dpmsolver++" }),
  sampler("sde-dpm-solver++-karras", "DPMSolverMultistepScheduler", {
    algorithm_type: "sde-dpmsolver++",
    ...karras,
  }),
  sampler("deis", "DEISMultistepScheduler"),
  sampler("deis-v", "DEISMultistepScheduler", { timestep_spacing: "trailing", ...VELOCITY }),
  sampler("unipc", "UniPCMultistepScheduler"),
  sampler("unipc-karras-v", "UniPCMultistepScheduler", { ...karras, ...VELOCITY }),
  sampler("pndm-v", "PNDMScheduler", { skip_prk_steps: true, set_alpha_to_one: false, ...VELOCITY }),
  sampler("lcm-of-sd15", "LCMScheduler"),
  sampler("tcd", "TCDScheduler"),
];

export const comparedPipelines = [...published, ...settings, ...controlled, ...saved, ...samplers];

type Call = Omit<ComparedCase, "name" | "pipeline" | "controls">;
/** The small pipelines' own size. */
const usual: Call = { prompts: ["a red cat"], steps: 4, guidanceScale: 7.5, width: 32, height: 32 };

const matrix: Readonly<Record<string, Call>> = {
  "1 step, guidance 0": { ...usual, steps: 1, guidanceScale: 0 },
  "1 step, guidance 7.5": { ...usual, steps: 1 },
  "4 steps, guidance 0": { ...usual, guidanceScale: 0 },
  "4 steps, guidance 1": { ...usual, guidanceScale: 1 },
  "4 steps, guidance 7.5": usual,
  "25 steps, guidance 0": { ...usual, steps: 25, guidanceScale: 0 },
  "25 steps, guidance 7.5": { ...usual, steps: 25 },
  "negative prompt": { ...usual, negativePrompt: "blue apple" },
  "negative prompt, guidance 1": { ...usual, guidanceScale: 1, negativePrompt: "blue apple" },
  "batch of 2": { ...usual, prompts: ["a red cat", "blue apple, 3 apples"], negativePrompt: "cat" },
  wide: { ...usual, width: 48, height: 24 },
  "tall, guidance 1": { ...usual, width: 16, height: 40, guidanceScale: 1 },
  "image, strength 0.3": { ...usual, strength: 0.3 },
  "image, strength 0.6, 10 steps, guidance 1": { ...usual, steps: 10, guidanceScale: 1, strength: 0.6 },
  "image, strength 1": { ...usual, strength: 1 },
  "image, batch of 2, wide": { ...usual, prompts: ["cat", "apple"], width: 48, height: 24, strength: 0.8 },
};
const some = (...names: readonly string[]): Record<string, Call> =>
  Object.fromEntries(names.map((name) => [name, matrix[name]!]));
const ofSettings = some("4 steps, guidance 0", "4 steps, guidance 7.5", "25 steps, guidance 7.5", "negative prompt");
const ofControls = {
  ...some("1 step, guidance 0", "4 steps, guidance 1", "4 steps, guidance 7.5", "batch of 2", "wide"),
};
const ofSaved = some("4 steps, guidance 1", "4 steps, guidance 7.5");
const ofSamplers = {
  ...some("1 step, guidance 7.5", "4 steps, guidance 7.5", "25 steps, guidance 7.5", "image, strength 0.3"),
  ...some("image, strength 0.6, 10 steps, guidance 1", "image, strength 1"),
};

const casesOf = (pipelines: readonly ComparedPipeline[], calls: Readonly<Record<string, Call>>): ComparedCase[] =>
  pipelines.flatMap(({ name: pipeline, family }) =>
    Object.entries(calls).map(([call, options]) => {
      return { name: `${pipeline}, ${call}`, pipeline, controls: scales[family] ?? [], ...options };
    }),
  );

export const comparedCases: readonly ComparedCase[] = [
  ...casesOf(published, matrix),
  ...casesOf(settings, ofSettings),
  ...casesOf(controlled, ofControls),
  ...casesOf(saved, ofSaved),
  ...casesOf(samplers, ofSamplers),
  ...casesOf(
    samplers.filter(({ name }) => ["ddim", "ddim-trailing-v", "tcd"].includes(name)),
    { "eta 0.6": { ...usual, eta: 0.6 } },
  ),
];
