import { describe, expect, it } from "vitest";
import { HostTensor } from "@sdxs/tensor";
import { combineHost, ddim, dpmSolver, noiseSchedule, partialPlan, planFromConfig, sample } from "../index.js";

const stableDiffusion = { beta_start: 0.00085, beta_end: 0.012, beta_schedule: "scaled_linear", steps_offset: 1 };
const clean = HostTensor.from([3], [0.5, -1, 2]);
const noise = HostTensor.from([3], [1, 0.25, -0.5]);

describe("partialPlan", () => {
  // Where the network knows the noise, every solver of the ODE ends at the clean sample.
  it.each([
    [{ _class_name: "DDIMScheduler", clip_sample: false }, 10],
    [{ _class_name: "EulerDiscreteScheduler" }, 10],
    [{ _class_name: "EulerDiscreteScheduler", use_karras_sigmas: true }, 10],
    [{ _class_name: "DPMSolverMultistepScheduler" }, 20],
    [{ _class_name: "DPMSolverMultistepScheduler", use_karras_sigmas: true }, 20],
  ])("begins %j at the level of its first step", async (config, steps) => {
    for (const strength of [0.1, 0.55, 0.8, 1]) {
      const plan = partialPlan(planFromConfig({ ...stableDiffusion, ...config }, steps), strength);
      expect(plan.steps).toHaveLength(Math.floor(steps * strength));
      expect(plan.timesteps).toEqual(plan.steps.map(({ timestep }) => timestep));
      const { alpha, sigma } = plan.steps[0]!.level;
      const noised = combineHost([
        [alpha, clean],
        [sigma, noise],
      ]);
      const end = await sample({ plan, noise: noised, predict: () => noise });
      Array.from(end.data).forEach((value, i) => expect(value).toBeCloseTo(clean.data[i]!, 5));
    }
  });

  it("ends DEIS at the noise level of timestep 0", async () => {
    const config = { ...stableDiffusion, _class_name: "DEISMultistepScheduler" };
    const plan = partialPlan(planFromConfig(config, 20), 0.6);
    const { alpha, sigma } = plan.steps[0]!.level;
    const noised = combineHost([
      [alpha, clean],
      [sigma, noise],
    ]);
    const end = await sample({ plan, noise: noised, predict: () => noise });
    const abar = 1 - 0.00085; // after one training step
    Array.from(end.data).forEach((value, i) =>
      expect(value).toBeCloseTo(Math.sqrt(abar) * clean.data[i]! + Math.sqrt(1 - abar) * noise.data[i]!, 5),
    );
  });

  it("begins a multistep solver with a step of first order, which is DDIM's", () => {
    const schedule = noiseSchedule();
    const solver = dpmSolver(schedule, { steps: 20, spacing: "trailing" });
    const { update } = partialPlan(solver, 0.5).steps[0]!;
    expect(solver.steps[10]!.update.predictions).toHaveLength(2);
    const { update: expected } = ddim(schedule, { steps: 20, spacing: "trailing" }).steps[10]!;
    expect(update.sample).toBeCloseTo(expected.sample, 12);
    expect(update.predictions).toHaveLength(1);
    expect(update.predictions[0]).toBeCloseTo(expected.predictions[0]!, 12);
  });

  it("is the whole run at strength 1, and refuses one without steps", () => {
    const plan = ddim(noiseSchedule(), { steps: 4 });
    expect(partialPlan(plan, 1)).toEqual(plan);
    expect(() => partialPlan(plan, 0.2)).toThrow(/of 4 steps a strength of 0\.2 leaves none\. Take at least 5/);
    for (const strength of [0, -1, 1.1, NaN]) {
      expect(() => partialPlan(plan, strength)).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
    }
  });
});
