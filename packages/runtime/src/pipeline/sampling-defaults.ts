import { planFromConfig, type SchedulerConfig } from "@sdxs/diffusion";
import type { UNetConfig } from "@sdxs/tiny-unet";
import type { TextToImageComponents } from "../checkpoints/components.js";

/** How a model is sampled where nothing else is said. */
export interface SamplingDefaults {
  readonly steps: number;
  readonly guidanceScale: number;
}

/** Of diffusers' StableDiffusionPipeline and StableDiffusionXLPipeline. */
const GUIDANCE = { sd: 7.5, xl: 5 };
const STEPS = 50;
/** Samplers of higher order come as near in half the steps: what diffusers' documentation takes for DPM-Solver++. */
const HIGHER_ORDER_STEPS = 25;
const HIGHER_ORDER = /^(DPMSolver|DEIS|UniPC|Heun|KDPM2|LMS)/;

/** Of diffusers' LatentConsistencyModelPipeline. */
const CONSISTENCY = { steps: 4, guidanceScale: 8.5 };

/**
 * Steps and guidance for a model, by its configurations:
 *
 * - a latent consistency model: 4 steps, and a guidance scale of 8.5 where the U-Net takes one (`time_cond_proj_dim`);
 * - the scheduler LCMScheduler or TCDScheduler with another U-Net: 4 steps without guidance;
 * - one step without guidance for SDXS's students, whose U-Nets have no mid stage and whose scheduler begins a single step at
 *   the last timestep, and for turbo models, whose Euler scheduler spaces its timesteps "trailing";
 * - all others: 50 steps, or 25 by a sampler of higher order, and guidance of 7.5, or 5 for Stable Diffusion XL.
 *
 * @param sampler the scheduler that samples, where it is not the model's own
 *
 * @example
 * const { steps, guidanceScale } = samplingDefaults(components); // 1 and 1 for SDXS-512
 */
export function samplingDefaults(
  { unet, scheduler }: Pick<TextToImageComponents, "unet" | "scheduler">,
  sampler: SchedulerConfig = scheduler,
): SamplingDefaults {
  const { config } = unet;
  const { _class_name: className } = sampler;
  if (config.time_cond_proj_dim !== null) return CONSISTENCY;
  if (/^(LCM|TCD)Scheduler$/.test(className)) return { steps: CONSISTENCY.steps, guidanceScale: 1 };
  if (isStudent(config, scheduler) || isTurbo(scheduler)) return { steps: 1, guidanceScale: 1 };
  return {
    steps: HIGHER_ORDER.test(className) ? HIGHER_ORDER_STEPS : STEPS,
    guidanceScale: config.addition_embed_type === null ? GUIDANCE.sd : GUIDANCE.xl,
  };
}

/** BK-SDM-Tiny has no mid stage either, and takes many steps: its scheduler begins a single step near timestep 0. */
function isStudent({ mid_block_type: mid }: UNetConfig, scheduler: SchedulerConfig): boolean {
  if (mid !== null || scheduler._class_name === "PNDMScheduler") return false; // which may need four steps
  const last = (scheduler.num_train_timesteps ?? 1000) - 1;
  const plan = planFromConfig({ ...scheduler, clip_sample: false }, 1);
  return Math.round(plan.steps[0]!.timestep) === last;
}

/** As of SD-Turbo, SDXL-Turbo and SDXS-512-0.9. Models of zero terminal SNR are spaced so, too. */
function isTurbo(scheduler: SchedulerConfig): boolean {
  const { prediction_type: prediction = "epsilon", rescale_betas_zero_snr: zeroSnr = false } = scheduler;
  return (
    /^Euler(Ancestral)?DiscreteScheduler$/.test(scheduler._class_name) &&
    scheduler.timestep_spacing === "trailing" &&
    prediction === "epsilon" &&
    !zeroSnr
  );
}
