import { checkSchedulerConfig, withScheduler, type SamplerPlan, type SchedulerConfig } from "@sdxs/diffusion";
import type { PipelineWarning } from "../checkpoints/pipeline-warnings.js";
import type { TextToImageComponents } from "../checkpoints/components.js";

/**
 * The scheduler's configuration as diffusers' pipeline of these components takes it, or another scheduler in its place.
 *
 * diffusers' StableDiffusionPipeline sets `steps_offset` to 1 and `clip_sample` to false, whatever the folder says; its
 * pipelines of Stable Diffusion XL and with ControlNets do not.
 *
 * @param other a scheduler's name, as `withScheduler` takes it, or a whole configuration
 * @throws UnsupportedConfigError for a scheduler, or a field of one, that is not supported
 */
export function pipelineScheduler(
  {
    scheduler,
    unet,
    controlnet = [],
  }: {
    readonly scheduler: SchedulerConfig;
    readonly unet: Pick<TextToImageComponents["unet"], "config">;
    readonly controlnet?: readonly unknown[];
  },
  other?: string | SchedulerConfig,
): SchedulerConfig {
  const isStableDiffusion = unet.config.addition_embed_type === null && controlnet.length === 0;
  const own = isStableDiffusion ? { ...scheduler, steps_offset: 1, clip_sample: false } : scheduler;
  if (other === undefined) return own;
  return typeof other === "string" ? withScheduler(own, other) : other;
}

/** Share of noise to signal below which a picture is nearly clean: that of Stable Diffusion's timestep 10. */
const NEARLY_CLEAN = 0.1;

/** What a user should know of a scheduler: fields without effect, and a run from noise that begins where there is none. */
export function schedulerWarnings(config: SchedulerConfig, plan: SamplerPlan, fromNoise: boolean): PipelineWarning[] {
  const messages = checkSchedulerConfig(config);
  const warnings = messages.map((message): PipelineWarning => ({ code: "SCHEDULER_FIELD", message }));
  const { level, timestep } = plan.steps[0]!;
  if (!fromNoise || level.sigma / level.alpha > NEARLY_CLEAN) return warnings;
  return [
    ...warnings,
    {
      code: "STARTS_CLEAN",
      message:
        `The scheduler's first of ${plan.steps.length} steps is at timestep ${timestep}, where pictures are nearly clean, so that ` +
        `noise stays noise. A one-step model needs "timestep_spacing": "trailing", as oneStepScheduler of @sdxs/diffusion ` +
        `writes it; another model needs more steps.`,
    },
  ];
}
