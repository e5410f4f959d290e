import { describe, expect, it } from "vitest";
import type { SchedulerConfig } from "@sdxs/diffusion";
import { publishedUNets, type UNetConfig } from "@sdxs/tiny-unet";
import { samplingDefaults } from "./sampling-defaults.js";

const scheduler = (_class_name: string, fields: Partial<SchedulerConfig> = {}): SchedulerConfig => ({
  _class_name,
  beta_start: 0.00085,
  beta_end: 0.012,
  beta_schedule: "scaled_linear",
  ...fields,
});
const {
  sd15,
  "sdxs-512": sdxs,
  "sdxs-512-0.9": sdxs09,
  "sd21-base": sd21,
  sdxl,
  "bk-sdm-tiny": bkSdmTiny,
} = publishedUNets;
const lcm = { ...sd15, time_cond_proj_dim: 256 };
const trailing = { timestep_spacing: "trailing" };

describe("samplingDefaults", () => {
  // What the models' cards and the pipelines of diffusers 0.27.2 take.
  it.each<[string, UNetConfig, SchedulerConfig, number, number]>([
    ["Stable Diffusion 1.5 by DDIM", sd15, scheduler("DDIMScheduler", { clip_sample: false }), 50, 7.5],
    ["Stable Diffusion 2.1 by DPM-Solver++", sd21, scheduler("DPMSolverMultistepScheduler"), 25, 7.5],
    ["Stable Diffusion XL", sdxl, scheduler("EulerDiscreteScheduler", { timestep_spacing: "leading" }), 50, 5],
    ["BK-SDM-Tiny", bkSdmTiny, scheduler("DDIMScheduler", { clip_sample: false }), 50, 7.5],
    ["SDXS-512-0.9", sdxs09, scheduler("EulerDiscreteScheduler", trailing), 1, 1],
    ["SDXS-512-DreamShaper", sdxs, scheduler("DEISMultistepScheduler"), 1, 1],
    ["SD-Turbo", sd21, scheduler("EulerDiscreteScheduler", trailing), 1, 1],
    ["SDXL-Turbo", sdxl, scheduler("EulerAncestralDiscreteScheduler", trailing), 1, 1],
    [
      "zero terminal SNR",
      sd21,
      scheduler("EulerDiscreteScheduler", {
        ...trailing,
        rescale_betas_zero_snr: true,
        prediction_type: "v_prediction",
      }),
      50,
      7.5,
    ],
    ["a latent consistency model", lcm, scheduler("LCMScheduler"), 4, 8.5],
    ["a latent consistency model's LoRA, merged", sd15, scheduler("LCMScheduler"), 4, 1],
  ])("takes %s for what it is", (_, config, scheduling, steps, guidanceScale) => {
    const unet = { className: "UNet2DConditionModel", config, params: {} } as const;
    expect(samplingDefaults({ unet, scheduler: scheduling })).toEqual({ steps, guidanceScale });
  });
});
