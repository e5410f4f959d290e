import { HostTensor, InvalidArgumentError, ShapeError, random, type Shape } from "@sdxs/tensor";
import { sample, type SamplerPlan } from "@sdxs/diffusion";
import { guidedPrediction, type Guidance } from "./guidance.js";
import { stack } from "./host-batches.js";
import type { Sampler } from "./plug-ins.js";

export interface NoiseImagePairsOptions {
  /** Decides the noise of every pair. */
  readonly seed: number | string;
  /** Shape of one sample, as [channels, height, width]. */
  readonly sampleShape: Shape;
  /** The ODE sampler psi: a plan without noise, as `dpmSolver` or `ddim` gives. */
  readonly plan: SamplerPlan;
  /**
   * The teacher's prediction, shaped as the sample [n, ...], for contexts [n, tokens, features]. With guidance n is twice
   * the batch: first the unconditional half, then the conditional one.
   */
  readonly predict: (sample: HostTensor, timestep: number, context: HostTensor) => Promise<HostTensor>;
  /** Classifier-free guidance; needs the context of the empty prompt. Default: none. */
  readonly guidance?: Guidance;
}

/**
 * Pairs of noise epsilon and the teacher's ODE sample psi(x_phi(epsilon)), the data of the warm-up (SDXS paper, Section 3.2).
 *
 * Returns a function that makes the pairs `first`, `first + 1`, ... for a batch of contexts [batch, tokens, features].
 * The noise of a pair depends on the seed and the pair's index alone, so batches of any size give the same pairs.
 *
 * Throws `InvalidArgumentError` for a plan that adds noise, `ShapeError` where contexts do not fit.
 *
 * @example
 * const pairs = noiseImagePairs({ seed: 1, sampleShape: [4, 16, 16], plan: ddim(schedule, { steps: 25 }), predict });
 * const { noise, target } = await pairs(contexts, 0);
 */
export function noiseImagePairs(options: NoiseImagePairsOptions): Sampler {
  const { seed, sampleShape, plan, predict, guidance } = options;
  if (plan.steps.some(({ update }) => update.noise !== 0)) {
    throw new InvalidArgumentError(
      "noiseImagePairs: the plan adds noise, so a noise has no one image. Use an ODE sampler: ddim, dpmSolver, deis or euler.",
    );
  }
  const noiseOf = random(seed, "noise-image-pairs");
  return async (contexts, first, signal) => {
    const [batch, ...contextShape] = contexts.shape;
    if (batch === undefined || batch === 0 || contextShape.length !== 2) {
      throw new ShapeError(
        `noiseImagePairs: contexts must be [batch, tokens, features], got [${contexts.shape.join(", ")}].`,
      );
    }
    const noise = stack(Array.from({ length: batch }, (_, i) => noiseOf.at(first + i).normal(sampleShape)));

    const teacher = (x: HostTensor, timestep: number) =>
      guidedPrediction(
        "noiseImagePairs",
        { predict: (inputs) => predict(inputs.sample, timestep, inputs.context) },
        guidance,
        { sample: x, timestep: HostTensor.filled([batch], timestep), context: contexts },
      );
    const target = await sample({ plan, noise, predict: teacher, ...(signal === undefined ? {} : { signal }) });
    return { noise, target };
  };
}
