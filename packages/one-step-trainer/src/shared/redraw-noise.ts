import { HostTensor, InvalidArgumentError, type Random } from "@sdxs/tensor";

/**
 * Noise with some values resampled, so that it determines the teacher's sample less and the student has to follow
 * the condition: "replacing a portion of the noise input to U-Net with freshly reinitialized noise can enhance control
 * capabilities" (SDXS paper, Section 3.2). The paper does not say which portion; here it is each value by chance, so the
 * result is standard normal, too.
 *
 * @param noise standard normal, of any shape
 * @param share probability that a value is resampled, from 0 to 1
 * @param stream decides which values, and their new values
 *
 * Throws `InvalidArgumentError` for another share.
 *
 * @example
 * const noise = redrawNoise(triplet.noise, 0.5, random(seed, "redrawn noise", update));
 */
export function redrawNoise(noise: HostTensor, share: number, stream: Random): HostTensor {
  if (!(share >= 0 && share <= 1)) {
    throw new InvalidArgumentError(`redrawNoise: share must be from 0 to 1, got ${share}.`);
  }
  const chance = stream.at("which").uniform(noise.shape).data;
  const fresh = stream.at("fresh").normal(noise.shape).data;
  return new HostTensor(
    noise.shape,
    Float32Array.from(noise.data, (value, i) => (chance[i]! < share ? fresh[i]! : value)),
  );
}
