import { fileURLToPath } from "node:url";
import { HostTensor, ShapeError, type Ops, type Program, type TensorMap } from "@sdxs/tensor";
import { readSafetensorsFile } from "@sdxs/tensor/node";
import { testBackends, type RunOnce } from "@sdxs/tensor/testing";
import { beforeAll, describe, expect, it } from "vitest";
import {
  addNoise,
  applyStep,
  combineHost,
  combineWith,
  deis,
  dpmSolver,
  euler,
  gatherNoiseLevels,
  guided,
  noiseLevelAt,
  noiseSchedule,
  oneStepConversion,
  oneStepFromPlan,
  oneStepSample,
  predictedNoise,
  predictedSample,
  predictedVelocity,
  predictionTarget,
  sample,
  velocity,
  type PredictionType,
  type SamplerState,
} from "./index.js";

const path = fileURLToPath(new URL("../fixtures/schedulers/io.safetensors", import.meta.url));
const { tensors } = await readSafetensorsFile(path);
const clean = tensors["ddpm.add_noise.in.sample"]!; // [6, 4, 3, 3]
const noise = tensors["ddpm.add_noise.in.noise"]!;
const timesteps = tensors["ddpm.add_noise.in.timesteps"]!; // 0, 1, 249, ...
const schedule = noiseSchedule();
const PREDICTIONS: readonly PredictionType[] = ["epsilon", "v_prediction", "sample"];

/** Largest absolute difference, in units of the larger of 1 and the largest reference value. */
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

describe("noise schedules", () => {
  it("are diffusers' tables for Stable Diffusion", () => {
    expect(difference(schedule.betas, tensors["ddpm.betas"]!.data)).toBeLessThan(1e-7);
    expect(difference(schedule.alphasCumprod, tensors["ddpm.alphas_cumprod"]!.data)).toBeLessThan(1e-6);
    expect(schedule.alphasCumprod[999]).toBeCloseTo(0.0046601, 7);
  });

  it("are diffusers' table with zero terminal SNR", () => {
    const zeroSnr = noiseSchedule({ zeroTerminalSnr: true });
    expect(difference(zeroSnr.alphasCumprod, tensors["ddpm.alphas_cumprod_zero_snr"]!.data)).toBeLessThan(1e-6);
    expect(zeroSnr.alphasCumprod[999]).toBe(0);
    expect(zeroSnr.betas[999]).toBe(1);
  });

  it("of kind linear go from betaStart to betaEnd in equal steps", () => {
    const { betas } = noiseSchedule({ kind: "linear", betaStart: 0.0001, betaEnd: 0.02, trainSteps: 3 });
    expect(difference(betas, [0.0001, 0.01005, 0.02])).toBeLessThan(1e-12);
  });

  it("of kind squaredcos_cap_v2 follow the squared cosine until the cap", () => {
    const { betas, alphasCumprod } = noiseSchedule({ kind: "squaredcos_cap_v2" });
    // abar_t = f(t + 1) / f(0), f(t) = cos^2((t / T + 0.008) / 1.008 * pi / 2): arXiv:2102.09672, Equation 17.
    const f = (t: number) => Math.cos(((t / 1000 + 0.008) / 1.008) * (Math.PI / 2)) ** 2;
    for (const t of [0, 400, 990]) expect(alphasCumprod[t]).toBeCloseTo(f(t + 1) / f(0), 10);
    expect(betas[999]).toBe(0.999);
  });

  it("refuse betas outside (0, 1)", () => {
    expect(() => noiseSchedule({ betaStart: 0 })).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
    expect(() => noiseLevelAt(schedule, 1000)).toThrow(/\[0, 1000\)/);
  });
});

describe.each(testBackends)("on $name", (backend) => {
  let run: RunOnce;
  beforeAll(async () => {
    run = await backend.run();
  });

  it("noise and velocity are diffusers' for a batch of timesteps", async () => {
    const program: Program = (ops, _params, { clean, noise, timesteps }) => {
      const level = gatherNoiseLevels(ops, schedule, timesteps!);
      return { noisy: addNoise(ops, clean!, noise!, level), velocity: velocity(ops, clean!, noise!, level) };
    };
    const { noisy, velocity: v } = await run(program, {}, { clean, noise, timesteps });
    expect(difference(noisy!.data, tensors["ddpm.add_noise.out"]!.data)).toBeLessThan(1e-5);
    expect(difference(v!.data, tensors["ddpm.get_velocity.out"]!.data)).toBeLessThan(1e-5);
  });

  it.each(PREDICTIONS)("a perfect %s prediction yields sample, noise and velocity", async (type) => {
    const program: Program = (ops, _params, { clean, noise, timesteps }) => {
      // The middle of the range: at its ends one of the conversions loses most digits.
      const level = gatherNoiseLevels(ops, schedule, timesteps!);
      const noisy = addNoise(ops, clean!, noise!, level);
      const output = predictionTarget(ops, type, clean!, noise!, level);
      return {
        sample: predictedSample(ops, type, noisy, output, level),
        noise: predictedNoise(ops, type, noisy, output, level),
        velocity: predictedVelocity(ops, type, noisy, output, level),
        expectedVelocity: velocity(ops, clean!, noise!, level),
      };
    };
    const inputs = { clean, noise, timesteps: new HostTensor([6], Int32Array.of(300, 400, 450, 500, 550, 600)) };
    const result = await run(program, {}, inputs);
    expect(difference(result["sample"]!.data, clean.data)).toBeLessThan(1e-5);
    expect(difference(result["noise"]!.data, noise.data)).toBeLessThan(1e-5);
    expect(difference(result["velocity"]!.data, result["expectedVelocity"]!.data)).toBeLessThan(1e-5);
  });

  it("one-step samples have the factors of SDXS and of its DEIS release", async () => {
    const direct = oneStepConversion(schedule);
    const released = oneStepFromPlan(deis(schedule, { steps: 1 }));
    expect([direct.timestep, released.timestep]).toEqual([999, 999]);
    // Computed by diffusers' DDIM and DEIS schedulers.
    expect(difference([direct.noise, direct.output], [14.648814, -14.614641])).toBeLessThan(1e-5);
    expect(difference([released.noise, released.output], [14.642591, -14.579279])).toBeLessThan(1e-5);

    const program: Program = (ops, _params, { noise, output }) => ({
      sample: oneStepSample(ops, noise!, output!, direct),
    });
    const result = await run(
      program,
      {},
      { noise: HostTensor.from([2], [1, 0.5]), output: HostTensor.from([2], [1, -1]) },
    );
    expect(difference(result["sample"]!.data, [0.034173, 21.939048])).toBeLessThan(1e-5);
  });

  it("guidance extrapolates from the unconditional output", async () => {
    const program: Program = (ops, _params, { a, b }) => ({ out: guided(ops, a!, b!, 7.5) });
    const inputs = { a: HostTensor.from([2], [1, 2]), b: HostTensor.from([2], [2, 1]) };
    expect(difference((await run(program, {}, inputs))["out"]!.data, [8.5, -5.5])).toBeLessThan(1e-6);
    const mismatched = run(program, {}, { ...inputs, b: HostTensor.from([1], [1]) });
    await expect(mismatched).rejects.toThrow(ShapeError);
  });

  it("a sampler's steps over tensors are those on the host", async () => {
    const plan = dpmSolver(schedule, { steps: 3, finalSigma: "sigma_min" });
    const program = <T>(ops: Ops<T>, _params: TensorMap<T>, { noise }: TensorMap<T>) => {
      let state: SamplerState<T> = { sample: noise!, history: [] };
      for (const step of plan.steps) state = applyStep(combineWith(ops), step, state, state.sample);
      return { sample: state.sample };
    };
    const start = HostTensor.from([3], [1, -2, 0.5]);
    const onHost = await sample({ plan, noise: start, predict: (input) => input });
    const result = await run(program, {}, { noise: start });
    expect(difference(result["sample"].data, onHost.data)).toBeLessThan(1e-5);
  });
});

describe("one-step conversions", () => {
  it("of a trailing Euler plan scale the network's input", () => {
    const conversion = oneStepFromPlan(euler(schedule, { steps: 1, spacing: "trailing" }));
    // diffusers' Euler scheduler: z times sigma / sqrt(sigma^2 + 1), sigma = 14.614641.
    expect(conversion.input).toBeCloseTo(14.614641 / Math.hypot(14.614641, 1), 6);
    expect(difference([conversion.noise, conversion.output], [14.614641, -14.614641])).toBeLessThan(1e-5);
  });

  it("refuse a plan of several steps", () => {
    expect(() => oneStepFromPlan(deis(schedule, { steps: 2 }))).toThrow(/got 2 steps/);
  });

  it("of host tensors add up in float64", () => {
    const sum = combineHost([
      [1, HostTensor.scalar(1e8)],
      [-1, HostTensor.scalar(1e8)],
      [1, HostTensor.scalar(1)],
    ]);
    expect(sum.item()).toBe(1);
  });
});
