import { declareParameters, select, type ParameterSpec, type Shape } from "@sdxs/tensor";
import { projectedDiscriminator, type Discriminator } from "@sdxs/losses/discriminators";
import type { FeatureExtractor } from "./plug-ins.js";

/** A discriminator of samples by their features. */
export interface FeatureDiscriminator {
  readonly features: FeatureExtractor;
  /** The trained heads, which judge the maps. Default: a head for each, `projectedDiscriminator` of @sdxs/losses/discriminators. */
  readonly discriminator?: Discriminator;
}

export const defaultDiscriminator: Discriminator = projectedDiscriminator;

/**
 * Names, shapes and initialisations of a feature discriminator's trained parameters; nothing is computed.
 *
 * @param shapes of one sample [channels, height, width] and of one context [tokens, features]
 *
 * @example
 * const specs = featureDiscriminatorParameters({ features }, { sampleShape: [4, 64, 64], contextShape: [77, 768] });
 * const discriminator = initialize(specs, seed);
 */
export function featureDiscriminatorParameters(
  { features, discriminator = defaultDiscriminator }: FeatureDiscriminator,
  { sampleShape, contextShape }: { readonly sampleShape: Shape; readonly contextShape: Shape },
): Record<string, ParameterSpec> {
  const specs = declareParameters(
    (ops, p, inputs) => discriminator(ops, p.at("discriminator"), features(ops, p.at("features"), inputs)),
    {
      sample: { shape: [1, ...sampleShape] },
      timestep: { shape: [1] },
      context: { shape: [1, ...contextShape] },
    },
  );
  return select(specs, "discriminator.");
}
