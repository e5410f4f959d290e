import type { Ops, Scope } from "@sdxs/tensor";
import { discriminatorLoss, type AdversarialLoss } from "../adversarial.js";
import { r1Penalty } from "../r1-penalty.js";

/** Judges maps [batch, channels, height, width] by logits [batch, ...], high for real samples. Samples must not mix. */
export type Discriminator = <T>(ops: Ops<T>, p: Scope<T>, maps: readonly T[]) => T;

export interface DiscriminatorObjectiveOptions {
  readonly gan: AdversarialLoss;
  /** Weight of R1 by the real samples' maps. Default 0: none. */
  readonly r1Weight?: number;
}

/** The discriminator's loss, and diagnostics of its balance with the generator, each of shape []. */
export interface DiscriminatorObjective<T> {
  /** The GAN's and R1's. */
  readonly loss: T;
  /** The GAN's alone. */
  readonly adversarial: T;
  /** Mean logits; their difference grows where the discriminator outperforms the generator. */
  readonly realLogit: T;
  readonly fakeLogit: T;
}

/**
 * The loss of the discriminator in a GAN whose discriminator judges maps of a network's features, as that of ADD
 * (https://arxiv.org/abs/2311.17042): `discriminatorLoss`, and R1 by the maps instead of the pixels.
 *
 * @param judge gives the logits [batch, ...] of maps
 * @param maps of real samples, and of generated ones, from which the gradient to the generator is to be stopped
 *
 * Throws `ShapeError` where the logits of both differ in shape, or are not one row for each sample.
 *
 * @example
 * const judge = (maps) => projectedDiscriminator(ops, scope(ops, params, "discriminator"), maps);
 * const { loss } = discriminatorObjective(ops, judge, { real, fake }, { gan: "hinge", r1Weight: 1e-5 });
 */
export function discriminatorObjective<T>(
  ops: Ops<T>,
  judge: (maps: readonly T[]) => T,
  maps: { readonly real: readonly T[]; readonly fake: readonly T[] },
  { gan, r1Weight = 0 }: DiscriminatorObjectiveOptions,
): DiscriminatorObjective<T> {
  const real = judge(maps.real);
  const fake = judge(maps.fake);
  const adversarial = ops.mean(discriminatorLoss(ops, gan, real, fake));
  const penalty = () => ops.mul(ops.mean(r1OfMaps(ops, judge, maps.real)), r1Weight);
  return {
    loss: r1Weight === 0 ? adversarial : ops.add(adversarial, penalty()),
    adversarial,
    realLogit: ops.mean(real),
    fakeLogit: ops.mean(fake),
  };
}

/** R1 by each of a sample's maps, [batch]: half the squared norm of the gradient by all of them. */
function r1OfMaps<T>(ops: Ops<T>, judge: (maps: readonly T[]) => T, maps: readonly T[]): T {
  return maps
    .map((map, l) => r1Penalty(ops, (x) => judge(maps.map((other, k) => (k === l ? x : other))), map))
    .reduce((sum, penalty) => ops.add(sum, penalty));
}
