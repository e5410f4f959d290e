import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { HostTensor } from "@sdxs/tensor";
import { readSafetensorsFile } from "@sdxs/tensor/node";
import { describe, expect, it } from "vitest";
import { ddim, dpmSolver, euler, lcm, noiseSchedule, planFromConfig, sample, type SchedulerConfig } from "../index.js";

interface Reference {
  readonly model: { readonly a: number; readonly b: number };
  readonly runs: Readonly<
    Record<
      string,
      {
        readonly class: string;
        readonly config: Omit<SchedulerConfig, "_class_name">;
        readonly num_inference_steps: number;
      }
    >
  >;
}

const fixture = (name: string) => fileURLToPath(new URL(`../../fixtures/schedulers/${name}`, import.meta.url));
const reference = JSON.parse(readFileSync(fixture("config.json"), "utf8").replaceAll("-Infinity", "null")) as Reference;
const { tensors } = await readSafetensorsFile(fixture("io.safetensors"));

const get = (name: string): HostTensor => {
  const tensor = tensors[name];
  if (tensor === undefined) throw new Error(`The fixture has no tensor ${name}.`);
  return tensor;
};

/** Entry `index` of the outermost axis. */
const entry = (tensor: HostTensor, index: number): HostTensor => {
  const shape = tensor.shape.slice(1);
  const size = shape.reduce((a, b) => a * b, 1);
  return HostTensor.from(shape, tensor.data.slice(index * size, (index + 1) * size));
};

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

describe("every sampler follows the trajectory that diffusers computed", () => {
  for (const [name, run] of Object.entries(reference.runs)) {
    it(name, async () => {
      const plan = planFromConfig({ ...run.config, _class_name: run.class }, run.num_inference_steps);
      // Karras timesteps lie between two entries; the reference finds them from a float32 table.
      expect(difference(plan.timesteps, get(`${name}.timesteps_f32`).data)).toBeLessThan(1e-5);
      expect(difference([plan.initNoiseSigma], get(`${name}.init_noise_sigma`).data)).toBeLessThan(1e-5);

      const { a, b } = reference.model;
      const trajectory: HostTensor[] = [];
      const result = await sample({
        plan,
        noise: get("x_T_unit"),
        predict: (input, timestep, step) => {
          const expectedInput = tensors[`${name}.model_input`];
          if (expectedInput) expect(difference(input.data, entry(expectedInput, step).data)).toBeLessThan(1e-4);
          return HostTensor.from(
            input.shape,
            Array.from(input.data, (value) => a * value + (b * timestep) / 1000),
          );
        },
        stepNoise: (step) => entry(get(`${name}.noise`), step),
        onStep: (_, current) => trajectory.push(current),
      });

      const expected = get(`${name}.trajectory`);
      trajectory.forEach((current, step) => {
        expect(difference(current.data, entry(expected, step + 1).data), `step ${step}`).toBeLessThan(1e-4);
      });
      expect(trajectory).toHaveLength(run.num_inference_steps);
      expect(result).toBe(trajectory.at(-1));
    });
  }
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
    const config = { _class_name: "DPMSolverMultistepScheduler", solver_order: 3 };
    expect(() => planFromConfig(config, 4)).toThrow(/solver_order is 3/);
    expect(() => planFromConfig({ _class_name: "UniPCMultistepScheduler" }, 4)).toThrow(/UniPC/);
  });
});
