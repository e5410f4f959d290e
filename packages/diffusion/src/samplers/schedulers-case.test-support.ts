import { HostTensor, SdxsError, sizeOf, type Program, type TensorMap } from "@sdxs/tensor";
import {
  compareTensors,
  maxAbs,
  tensorOf,
  uncompared,
  type CaseCheck,
  type Comparison,
} from "@sdxs/tensor/reference-case";
import { gatherNoiseLevels, noiseSchedule } from "../noise-schedule.js";
import { addNoise, velocity, type PredictionType } from "../prediction.js";
import { planFromConfig, predictionTypeFromConfig, scheduleFromConfig, type SchedulerConfig } from "./from-config.js";
import { applyStep, type SamplerPlan, type SamplerState } from "./plan.js";
import { sample } from "./sample.js";

/** config.json of the case. */
export interface SchedulerRuns {
  /** Stands in for a network: output = a input + b timestep / 1000. */
  readonly model: { readonly a: number; readonly b: number };
  readonly runs: Readonly<Record<string, SchedulerRun>>;
}

export interface SchedulerRun {
  readonly class: string;
  readonly config: Omit<SchedulerConfig, "_class_name">;
  readonly num_inference_steps: number;
  readonly step_kwargs?: { readonly eta?: number };
}

/**
 * Runs of samplers, and the forward process: config.json and io.safetensors with RUN.{timesteps, sigmas, init_noise_sigma,
 * trajectory, model_input, pred_x0, noise} and ddpm.{betas, alphas_cumprod, alphas_cumprod_zero_snr, add_noise.*,
 * get_velocity.out}.
 */
export const checkSchedulersCase: CaseCheck = async (reference, run) => {
  const { model, runs } = (await reference.json("config.json")) as SchedulerRuns;
  const io = await reference.tensors("io.safetensors");
  const comparisons: Comparison[] = [];
  const compare = (results: TensorMap<HostTensor>): void => {
    for (const [name, result] of Object.entries(results)) {
      const expected = io[name];
      if (expected === undefined) continue;
      // Not rounded step by step as samples are, but for Karras timesteps, found between the entries of a float32 table.
      const [group, tolerance] = /\.(timesteps(_f32)?|init_noise_sigma)$/.test(name)
        ? ["plans", 1e-5]
        : ["outputs", 1e-4];
      comparisons.push(compareTensors(group, name, result, expected, tolerance * Math.max(1, maxAbs(expected))));
    }
  };
  for (const [name, settings] of Object.entries(runs)) {
    tensorOf(io, `${name}.trajectory`);
    const results = await followRun(name, settings, model, io).catch((error: unknown) => {
      if (!(error instanceof SdxsError)) throw error;
      const problem = error.message;
      comparisons.push({ group: "outputs", name, error: Infinity, tolerance: 0, problem });
      return {};
    });
    compare(results);
  }

  const ddpm = Object.values(runs).find((settings) => settings.class === "DDPMScheduler");
  const config: SchedulerConfig = { ...ddpm?.config, _class_name: "DDPMScheduler" };
  const schedule = ddpm === undefined ? noiseSchedule() : scheduleFromConfig(config);
  const zeroSnr = scheduleFromConfig({ ...config, rescale_betas_zero_snr: true });
  compare({
    "ddpm.betas": vector(schedule.betas),
    "ddpm.alphas_cumprod": vector(schedule.alphasCumprod),
    "ddpm.alphas_cumprod_zero_snr": vector(zeroSnr.alphasCumprod),
  });
  if ("ddpm.add_noise.out" in io) {
    const noising: Program = (ops, _params, { clean, noise, timesteps }) => {
      const level = gatherNoiseLevels(ops, schedule, timesteps!);
      return {
        "ddpm.add_noise.out": addNoise(ops, clean!, noise!, level),
        "ddpm.get_velocity.out": velocity(ops, clean!, noise!, level),
      };
    };
    const clean = tensorOf(io, "ddpm.add_noise.in.sample");
    const noise = tensorOf(io, "ddpm.add_noise.in.noise");
    compare(await run(noising, {}, { clean, noise, timesteps: tensorOf(io, "ddpm.add_noise.in.timesteps") }));
  }
  const inputs = /^(x0|x_T_unit)$|\.noise$|^ddpm\.add_noise\.in\./;
  return { comparisons, unchecked: uncompared(io, comparisons, inputs) };
};

/** What our sampler gives for a run, under the names of the reference. */
async function followRun(
  name: string,
  settings: SchedulerRun,
  model: SchedulerRuns["model"],
  io: TensorMap<HostTensor>,
): Promise<Record<string, HostTensor>> {
  const config = { ...settings.config, _class_name: settings.class };
  const plan = planFromConfig(config, settings.num_inference_steps, settings.step_kwargs);
  const noise = tensorOf(io, "x_T_unit");
  const inputs: HostTensor[] = [];
  const samples: HostTensor[] = [scaled(noise, plan.initNoiseSigma)];
  const predictions: HostTensor[] = [];
  await sample({
    plan,
    noise,
    predict: (input, timestep) => {
      inputs.push(input);
      const values = Array.from(input.data, (value) => model.a * value + (model.b * timestep) / 1000);
      return HostTensor.from(input.shape, values);
    },
    stepNoise: (step) => entry(tensorOf(io, `${name}.noise`), step),
    onStep: (_, current, prediction) => {
      samples.push(current);
      predictions.push(prediction);
    },
  });
  const timesteps = vector(plan.timesteps);
  return {
    [`${name}.timesteps`]: timesteps,
    [`${name}.timesteps_f32`]: timesteps,
    [`${name}.sigmas`]: vector(sigmas(plan, predictionTypeFromConfig(config))),
    [`${name}.init_noise_sigma`]: vector([plan.initNoiseSigma]),
    [`${name}.trajectory`]: stack(samples),
    [`${name}.model_input`]: stack(inputs),
    [`${name}.pred_x0`]: stack(predictions),
  };
}

/**
 * Standard deviations of the noise relative to the signal, before the first call of the network and after each, from the
 * plan's factors alone: how the noise of a sample that is nothing else gets less, by a network that knows it. Samples over
 * sigma are clean + sigma noise, those of the other samplers (clean + sigma noise) / sqrt(1 + sigma^2).
 */
function sigmas({ steps }: SamplerPlan, prediction: PredictionType): number[] {
  const overSigma = steps[0]!.level.alpha === 1;
  let state: SamplerState<number> = { sample: steps[0]!.level.sigma, history: [] };
  const values = [state.sample];
  for (const step of steps) {
    const { alpha, sigma } = step.level;
    const output = { epsilon: 1, v_prediction: alpha / Math.hypot(alpha, sigma), sample: 0 }[prediction];
    const withoutNoise = { ...step, update: { ...step.update, noise: 0 } };
    const next = applyStep(
      (terms) => terms.reduce((sum, [factor, x]) => sum + factor * x, 0),
      withoutNoise,
      state,
      output,
    );
    state = { ...next, sample: Math.hypot(next.sample, step.update.noise) };
    values.push(state.sample);
  }
  return values.map((sigma) => (overSigma ? sigma : sigma / Math.sqrt(1 - sigma ** 2)));
}

const vector = (values: ArrayLike<number>): HostTensor => HostTensor.from([values.length], values);

const scaled = ({ shape, data }: HostTensor, factor: number): HostTensor =>
  HostTensor.from(
    shape,
    Array.from(data, (value) => factor * value),
  );

function stack(tensors: readonly HostTensor[]): HostTensor {
  const values = tensors.flatMap(({ data }) => [...data]);
  return HostTensor.from([tensors.length, ...(tensors[0]?.shape ?? [])], values);
}

/** Entry `index` of the outermost axis. */
function entry({ shape, data }: HostTensor, index: number): HostTensor {
  const rest = shape.slice(1);
  return HostTensor.from(rest, data.slice(index * sizeOf(rest), (index + 1) * sizeOf(rest)));
}
