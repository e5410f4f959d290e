import { InvalidArgumentError } from "@sdxs/tensor";
import type { SamplerPlan } from "./plan.js";

/**
 * The end of a sampler's run, for image-to-image as diffusers does it: the last floor(steps x strength) steps. They begin at
 * a clean sample with noise added, alpha x_0 + sigma noise by the `level` of the first of them.
 *
 * The first of them has no predictions before it, so it is of first order: both multistep solvers extrapolate earlier
 * predictions with weights whose sum is that order's.
 *
 * @param strength how much of the run is left, in (0, 1]; 1 is all of it
 * @throws InvalidArgumentError for a strength out of range, or one that leaves no step.
 *
 * @example
 * const plan = partialPlan(planFromConfig(config, 25), 0.8); // 20 steps
 * const { alpha, sigma } = plan.steps[0].level;
 * const latents = await sample({ plan, noise: combineHost([[alpha, clean], [sigma, noise]]), predict });
 */
export function partialPlan(plan: SamplerPlan, strength: number): SamplerPlan {
  const count = plan.steps.length;
  if (!(strength > 0 && strength <= 1)) {
    throw new InvalidArgumentError(`partialPlan: strength must be above 0 and at most 1, got ${strength}.`);
  }
  const begin = count - Math.floor(count * strength);
  const [first, ...rest] = plan.steps.slice(begin);
  if (first === undefined) {
    throw new InvalidArgumentError(
      `partialPlan: of ${count} steps a strength of ${strength} leaves none. Take at least ${Math.ceil(1 / strength)}.`,
    );
  }
  const order1 = first.update.predictions.reduce((sum, factor) => sum + factor, 0);
  return {
    timesteps: plan.timesteps.slice(begin),
    initNoiseSigma: 1,
    steps: [{ ...first, update: { ...first.update, predictions: [order1] } }, ...rest],
  };
}
