import { HostTensor, SdxsError, ShapeError, checkFields, type Signal } from "@sdxs/tensor";
import { applyStep, type Combine, type SamplerPlan, type SamplerState } from "./plan.js";

export interface SampleOptions {
  readonly plan: SamplerPlan;
  /** Standard normal noise, float32, any shape. */
  readonly noise: HostTensor;
  /** The network: its output for a scaled sample at a timestep, shaped as `noise`. Guidance belongs in here. */
  readonly predict: (sample: HostTensor, timestep: number, step: number) => Promise<HostTensor> | HostTensor;
  /** Fresh standard normal noise for step `step`; needed by samplers that add noise. */
  readonly stepNoise?: (step: number) => HostTensor;
  /** Stops before the next step with an error of code ABORTED. */
  readonly signal?: Signal;
  /** Called after each step, counted from 0, with the sample so far and the sampler's newest prediction. */
  readonly onStep?: (step: number, sample: HostTensor, prediction: HostTensor) => void;
}

/**
 * Runs a sampler from noise to a sample, with the arithmetic between the network's calls on the host.
 *
 * Throws `ShapeError` if the network's output has another shape, and `SdxsError` with code ABORTED.
 *
 * @example
 * const latents = await sample({ plan: dpmSolver(noiseSchedule(), { steps: 25 }), noise, predict });
 */
export async function sample(options: SampleOptions): Promise<HostTensor> {
  checkFields("sample", "options", options, ["plan", "noise", "predict"]);
  const { plan, noise, predict, stepNoise, signal, onStep } = options;
  let state: SamplerState<HostTensor> = { sample: combineHost([[plan.initNoiseSigma, noise]]), history: [] };
  for (const [index, step] of plan.steps.entries()) {
    if (signal?.aborted) {
      throw new SdxsError("ABORTED", `sample: aborted before step ${index + 1} of ${plan.steps.length}.`, {
        cause: signal.reason,
      });
    }
    const input = step.inputScale === 1 ? state.sample : combineHost([[step.inputScale, state.sample]]);
    const output = await predict(input, step.timestep, index);
    state = applyStep(combineHost, step, state, output, step.update.noise === 0 ? undefined : stepNoise?.(index));
    onStep?.(index, state.sample, state.history[0]!);
  }
  return state.sample;
}

/** Linear combinations of host tensors, accumulated in float64. Throws `ShapeError` where shapes differ. */
export const combineHost: Combine<HostTensor> = (terms) => {
  const [first] = terms;
  if (first === undefined) throw new ShapeError("combineHost: a linear combination needs at least one tensor.");
  const { shape } = first[1];
  for (const [, tensor] of terms) {
    if (tensor.shape.join() !== shape.join()) {
      throw new ShapeError(
        `combineHost: tensors of one shape were expected, got [${shape.join(", ")}] and [${tensor.shape.join(", ")}]. ` +
          `A network's output must be shaped as its input.`,
      );
    }
  }
  const sum = new Float64Array(first[1].data.length);
  for (const [factor, { data }] of terms) {
    for (let i = 0; i < sum.length; i++) sum[i]! += factor * data[i]!;
  }
  return HostTensor.from(shape, sum);
};
