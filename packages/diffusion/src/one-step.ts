import { InvalidArgumentError, ShapeError, checkFields, tensorShape, type Ops } from "@sdxs/tensor";
import { checkSchedule, noiseLevelAt, type NoiseSchedule } from "./noise-schedule.js";
import { samplePredictionAt, type PredictionType } from "./prediction.js";
import type { SamplerPlan } from "./samplers/plan.js";

/** A one-step generator around a diffusion network: x = noise z + output network(input z, timestep). */
export interface OneStepConversion {
  readonly timestep: number;
  /** Factor of the noise before it goes into the network. */
  readonly input: number;
  /** Factor of the noise in the sample. */
  readonly noise: number;
  /** Factor of the network's output in the sample. */
  readonly output: number;
}

export interface OneStepOptions {
  /** Default "epsilon". */
  readonly prediction?: PredictionType;
  /** Default: the schedule's last. */
  readonly timestep?: number;
}

/**
 * The one-step sample as x_0 = (z - sigma noise) / alpha at the last timestep, how SDXS is trained.
 * With Stable Diffusion's schedule x_0 = 14.6488 z - 14.6146 epsilon.
 *
 * @example
 * const conversion = oneStepConversion(noiseSchedule());
 */
export function oneStepConversion(schedule: NoiseSchedule, options: OneStepOptions = {}): OneStepConversion {
  checkSchedule("oneStepConversion", schedule);
  const { prediction = "epsilon", timestep = schedule.trainSteps - 1 } = options;
  const { sample, output } = samplePredictionAt(prediction, noiseLevelAt(schedule, timestep));
  return { timestep, input: 1, noise: sample, output };
}

/**
 * The one-step sample as a sampler's plan of a single step gives it. The released SDXS-512-DreamShaper models
 * use `deis(schedule, { steps: 1 })`, where x = 14.6426 z - 14.5793 epsilon; SDXS-512-0.9 uses trailing `euler`.
 *
 * Throws `InvalidArgumentError` for a plan of several steps or one that adds noise.
 */
export function oneStepFromPlan(plan: SamplerPlan): OneStepConversion {
  checkFields("oneStepFromPlan", "plan", plan, ["steps"]);
  const [step] = plan.steps;
  if (step === undefined || plan.steps.length !== 1 || step.update.noise !== 0) {
    throw new InvalidArgumentError(
      `oneStepFromPlan: a plan of one step without noise is needed, got ${plan.steps.length} steps. Plan with steps: 1.`,
    );
  }
  const { prediction, update } = step;
  const weight = update.predictions[0] ?? 0;
  return {
    timestep: step.timestep,
    input: plan.initNoiseSigma * step.inputScale,
    noise: plan.initNoiseSigma * (update.sample + weight * prediction.sample),
    output: weight * prediction.output,
  };
}

/**
 * The sample of a one-step generator from its noise and the network's output for it.
 * Its factors of about 14.6 amplify error: keep it in float32.
 *
 * @param noise z, standard normal, any shape
 * @param output the network's output, same shape
 *
 * @example
 * const latents = oneStepSample(ops, noise, network(ops, noise), oneStepConversion(noiseSchedule()));
 */
export function oneStepSample<T>(ops: Ops<T>, noise: T, output: T, conversion: OneStepConversion): T {
  const expected = tensorShape(ops, "oneStepSample", "noise", noise).join(", ");
  const received = tensorShape(ops, "oneStepSample", "output", output).join(", ");
  checkFields("oneStepSample", "conversion", conversion, ["noise", "output"]);
  if (expected !== received) {
    throw new ShapeError(`oneStepSample: the output must be shaped as the noise [${expected}], got [${received}].`);
  }
  return ops.add(ops.mul(conversion.noise, noise), ops.mul(conversion.output, output));
}
