import { readFileSync } from "node:fs";
import { HostTensor } from "@sdxs/tensor";
import { describe, expect, it } from "vitest";
import {
  checkSchedulerConfig,
  planFromConfig,
  sample,
  schedulerNames,
  type PlanOptions,
  type SchedulerConfig,
} from "../index.js";

/** A line of fixtures/sampler_runs/VERSION.jsonl, which make.py there wrote. */
interface Run {
  readonly class: string;
  readonly config: Omit<SchedulerConfig, "_class_name">;
  readonly steps: number;
  readonly strength: number | null;
  readonly eta: number | null;
  readonly calls: number;
  readonly first: number;
  readonly largest: number;
  readonly last: readonly number[];
}

const x = [0.7, -1.3, 0.2, 2.1];
const noise = [0.4, 0.9, -1.1, 0.3];

const runsOf = (version: string): Run[] =>
  readFileSync(new URL(`../../fixtures/sampler_runs/${version}.jsonl`, import.meta.url), "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Run);

/** What our sampler gives for make.py's network and noise. */
async function draw(config: SchedulerConfig, steps: number, options: PlanOptions) {
  const plan = planFromConfig(config, steps, options);
  const { alpha, sigma } = plan.steps[0]!.level;
  const begin = options.strength === undefined ? x : x.map((value, i) => alpha * value + sigma * noise[i]!);
  const last = await sample({
    plan,
    noise: HostTensor.from([4], begin),
    predict: ({ shape, data }, t) =>
      HostTensor.from(
        shape,
        Array.from(data, (value) => 0.3 * value + (0.2 * t) / 1000),
      ),
    stepNoise: (call) =>
      HostTensor.from(
        [4],
        x.map((_, i) => 1.3 * Math.sin(4 * call + i + 1)),
      ),
  });
  return { plan, last: Array.from(last.data) };
}

describe.each(["0.27.2", "0.31.0"])("diffusers %s", (version) => {
  const runs = runsOf(version);

  it.each(schedulerNames().map(([className]) => className))("gives what the %s here gives", async (className) => {
    const own = runs.filter((run) => run.class === className);
    expect(own.length).toBeGreaterThan(5);
    for (const { config, steps, strength, eta, ...expected } of own) {
      const settings = { ...config, _class_name: className };
      const options = { ...(strength !== null && { strength }), ...(eta !== null && { eta }) };
      const { plan, last } = await draw(settings, steps, options);
      const shown = JSON.stringify({ config, steps, strength, eta });
      expect(plan.steps.length, shown).toBe(expected.calls);
      // Karras timesteps are found between the entries of a float32 table.
      expect(Math.abs(plan.timesteps[0]! - expected.first), shown).toBeLessThan(1e-3);
      // Samples are rounded to float32, here and there: their errors are those of the largest on the way.
      const largest = Math.max(1, ...expected.last.map(Math.abs), expected.largest / 100);
      const errors = last.map((value, i) => Math.abs(value - expected.last[i]!));
      expect(Math.max(...errors) / largest, shown).toBeLessThan(1e-5);
      expect(checkSchedulerConfig(settings), shown).toEqual([]);
    }
  });
});

const stableDiffusion = { beta_start: 0.00085, beta_end: 0.012, beta_schedule: "scaled_linear" };
const zeroSnr = {
  ...stableDiffusion,
  prediction_type: "v_prediction",
  timestep_spacing: "trailing",
  rescale_betas_zero_snr: true,
};

describe("plans", () => {
  // Computed by diffusers 0.27.2 (Euler) and 0.31.0 (DPM-Solver++) in float32, where Euler's samples begin at 4096.
  it.each([
    ["EulerDiscreteScheduler", [0.1789, -0.6036, -0.0167, 0.7266]],
    ["DPMSolverMultistepScheduler", [0.2103, -0.6467, -0.0039, 0.8102]],
  ])("of the %s begin where zero terminal SNR leaves no signal", async (_class_name, expected) => {
    const { last } = await draw({ ...zeroSnr, _class_name }, 4, {});
    last.forEach((value, i) => expect(value).toBeCloseTo(expected[i]!, 3));
  });

  const spacings = ["linspace", "leading", "trailing"];
  const counts = [1, 2, 3, 4, 25, 99, 501, 999, 1000];
  it.each(schedulerNames().map(([className]) => className))(
    "of the %s are finite for every step count and strength",
    (_class_name) => {
      const consistency = /LCM|TCD/.test(_class_name);
      for (const timestep_spacing of spacings) {
        for (const rescale_betas_zero_snr of [false, true]) {
          const config = { ...zeroSnr, _class_name, timestep_spacing, rescale_betas_zero_snr, clip_sample: false };
          for (const steps of counts.filter((count) => !consistency || count <= 50)) {
            if (_class_name === "PNDMScheduler" && steps < 4) continue; // its Runge-Kutta steps are refused
            for (const strength of [undefined, 0.3, 0.999]) {
              if (strength !== undefined && Math.floor(steps * strength) === 0) continue;
              const plan = planFromConfig(config, steps, strength === undefined ? {} : { strength });
              const numbers = plan.steps.flatMap(({ update, prediction, level, inputScale, timestep }) => [
                ...[update.sample, update.base ?? 0, update.noise, prediction.sample, prediction.output],
                ...[level.alpha, level.sigma, inputScale, timestep, ...update.predictions],
              ]);
              expect(numbers.every(Number.isFinite), JSON.stringify({ config, steps, strength })).toBe(true);
            }
          }
        }
      }
    },
  );

  it("take order 1 where timesteps are the same, as with nearly as many steps as training has", () => {
    const config = { ...stableDiffusion, _class_name: "DPMSolverMultistepScheduler" };
    const { steps } = planFromConfig(config, 1000);
    const repeated = steps.findIndex(({ timestep }, i) => timestep === steps[i + 1]?.timestep);
    expect(repeated).toBeGreaterThan(0);
    expect(steps[repeated + 1]!.update.predictions).toHaveLength(1);
  });
});
