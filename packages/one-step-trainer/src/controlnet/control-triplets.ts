import type { HostTensor } from "@sdxs/tensor";

import type { NoiseImageBatch, Sampler } from "../shared/plug-ins.js";

/** A batch of noise, the teacher's samples of it, and their conditions. */
export interface ControlTriplets extends NoiseImageBatch {
  /** [batch, ...conditionShape] */
  readonly condition: HostTensor;
}

/**
 * Noise, target and condition that belong together: the condition is extracted from the teacher's sample of the noise,
 * not from a data set's image (SDXS paper, Section 3.2).
 *
 * @param sampler As `noiseImagePairs` gives it: by the teacher without its ControlNet.
 * @param extract Conditions of samples [batch, ...sampleShape]: decoded by the image decoder, their edges or depth.
 *
 * @example
 * const triplets = controlTriplets(noiseImagePairs(options), async (latents) => canny(await decode(latents)));
 * const { noise, target, condition } = await triplets(contexts, 0);
 */
export function controlTriplets(
  sampler: Sampler,
  extract: (samples: HostTensor) => HostTensor | Promise<HostTensor>,
): (...given: Parameters<Sampler>) => Promise<ControlTriplets> {
  return async (...given) => {
    const pairs = await sampler(...given);
    return { ...pairs, condition: await extract(pairs.target) };
  };
}
