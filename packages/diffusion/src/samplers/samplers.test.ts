import { HostTensor } from "@sdxs/tensor";
import { expectCase, referenceCase, testBackends } from "@sdxs/tensor/testing";
import { describe, expect, it } from "vitest";
import { ddim, dpmSolver, euler, lcm, noiseSchedule, planFromConfig, sample } from "../index.js";
import { checkSchedulersCase } from "./schedulers-case.test-support.js";

/** Largest absolute difference, relative to the larger of 1 and the largest reference value. */
const difference = (actual: ArrayLike<number>, expected: ArrayLike<number>): number => {
  expect(actual.length).toBe(expected.length);
  let largest = 1;
  let error = 0;
  for (let i = 0; i < expected.length; i++) {
    largest = Math.max(largest, Math.abs(expected[i]!));
    error = Math.max(error, Math.abs(actual[i]! - expected[i]!));
  }
  return Number.isNaN(error) ? Infinity : error / largest;
};

it("every sampler follows the trajectory that diffusers computed", async () => {
  const reference = referenceCase(new URL("../../fixtures/schedulers/", import.meta.url));
  expectCase(await checkSchedulersCase(reference, await testBackends[0]!.run()));
});

describe("sampling", () => {
  const schedule = noiseSchedule();
  const noise = HostTensor.from([2], [1, -1]);

  it("reaches the data of a perfect network in one trailing DDIM step that ends clean", async () => {
    const clean = [0.25, -3];
    const plan = ddim(schedule, { steps: 1, spacing: "trailing", prediction: "sample", endsClean: true });
    const result = await sample({ plan, noise, predict: () => HostTensor.from([2], clean) });
    expect(difference(result.data, clean)).toBeLessThan(1e-6);
  });

  it("stops with the code ABORTED once its signal is aborted", async () => {
    const controller = new AbortController();
    let calls = 0;
    const running = sample({
      plan: euler(schedule, { steps: 4 }),
      noise,
      signal: controller.signal,
      predict: (input) => {
        if (++calls === 2) controller.abort();
        return input;
      },
    });
    await expect(running).rejects.toMatchObject({ code: "ABORTED" });
    expect(calls).toBe(2);
  });

  it("rejects a network whose output has another shape", async () => {
    const running = sample({ plan: dpmSolver(schedule, { steps: 2 }), noise, predict: () => HostTensor.scalar(0) });
    await expect(running).rejects.toMatchObject({ code: "SHAPE_MISMATCH" });
  });

  it("asks for noise where the sampler adds some", async () => {
    const running = sample({ plan: lcm(schedule, { steps: 2 }), noise, predict: (input) => input });
    await expect(running).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  });

  it("rejects step counts that are not whole or too large", () => {
    for (const steps of [0, 1.5, 1001]) {
      expect(() => ddim(schedule, { steps })).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
    }
  });

  it("rejects an epsilon prediction where the schedule leaves no signal", () => {
    const zeroSnr = noiseSchedule({ zeroTerminalSnr: true });
    expect(() => ddim(zeroSnr, { steps: 4, spacing: "trailing" })).toThrow(
      expect.objectContaining({ code: "UNSUPPORTED_CONFIG" }),
    );
  });

  it("names the field of a configuration that it cannot follow", () => {
    const config = { _class_name: "DPMSolverMultistepScheduler", solver_order: 4 };
    expect(() => planFromConfig(config, 4)).toThrow(/solver_order is 4/);
    expect(() => planFromConfig({ _class_name: "KDPM2DiscreteScheduler" }, 4)).toThrow(/KDPM2/);
  });
});
