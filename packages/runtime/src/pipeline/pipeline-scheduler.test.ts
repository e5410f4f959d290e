import { planFromConfig } from "@sdxs/diffusion";
import { expect, it } from "vitest";
import { components, controlled } from "./pipeline-case.test-support.js";
import { pipelineScheduler } from "./pipeline-scheduler.js";

// Of diffusers 0.27.2: PNDMScheduler.from_config(...).set_timesteps(4) before and after StableDiffusionPipeline(scheduler=...).
const pndm = { _class_name: "PNDMScheduler", skip_prk_steps: true };
const raw = [750, 500, 500, 250, 0];
const opened = [751, 501, 501, 251, 1];

it.each([
  ["absent", pndm],
  ["0", { ...pndm, steps_offset: 0 }],
  ["5", { ...pndm, steps_offset: 5 }],
])("a pipeline of Stable Diffusion takes a steps_offset of 1 where it is %s", (_, scheduler) => {
  expect(planFromConfig(pipelineScheduler({ ...components, scheduler }), 4).timesteps).toEqual(opened);
});

it("and does not clip, which DDIM's configurations do where they say nothing", () => {
  const scheduler = { _class_name: "DDIMScheduler" };
  expect(pipelineScheduler({ ...components, scheduler })).toMatchObject({ steps_offset: 1, clip_sample: false });
});

it("takes the folder's words for Stable Diffusion XL and with ControlNets, as diffusers", () => {
  expect(planFromConfig(pipelineScheduler({ ...controlled, scheduler: pndm }), 4).timesteps).toEqual(raw);
  const config = { ...components.unet.config, addition_embed_type: "text_time" as const };
  const xl = { ...components, unet: { ...components.unet, config }, scheduler: pndm };
  expect(planFromConfig(pipelineScheduler(xl), 4).timesteps).toEqual(raw);
});

it("keeps these in another sampler's place", () => {
  const scheduler = pipelineScheduler({ ...components, scheduler: pndm }, "ddim");
  expect(planFromConfig(scheduler, 4).timesteps).toEqual([751, 501, 251, 1]);
});
