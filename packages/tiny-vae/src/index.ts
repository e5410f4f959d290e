export {
  autoencoderTinyParameters,
  autoencoderTinyPresets,
  decodeTiny,
  encodeTiny,
  parseAutoencoderTinyConfig,
  scaleLatents,
  tinyDecoderParameters,
  tinyDecoderReach,
  tinyEncoderParameters,
  tinyEncoderReach,
  unscaleLatents,
  type AutoencoderTinyConfig,
} from "./autoencoder-tiny.js";
export { fromTaesdNames, toTaesdNames, type TaesdFiles } from "./taesd-names.js";
export {
  autoencoderKlParameters,
  autoencoderKlPresets,
  decodeKl,
  encodeKl,
  fromDiffusionLatents,
  fromFormerKlNames,
  klDecoderParameters,
  klEncoderParameters,
  klMoments,
  parseAutoencoderKlConfig,
  posteriorFromMoments,
  posteriorKl,
  samplePosterior,
  toDiffusionLatents,
  type AutoencoderKlConfig,
  type Posterior,
} from "./autoencoder-kl.js";
export { computeInTiles, type TilingOptions } from "./tiling.js";
export { tinyDecoderDistillation, type TinyDecoderDistillationOptions } from "./distillation.js";
export {
  adversarialDecoderDistillation,
  discriminatorParameters,
  type AdversarialDecoderDistillation,
  type AdversarialDecoderDistillationOptions,
  type DiscriminatorOptions,
} from "./adversarial-distillation.js";
export {
  patchDiscriminator,
  projectedDiscriminator,
  type Discriminator,
  type PatchDiscriminatorOptions,
  type ProjectedDiscriminatorOptions,
} from "@sdxs/losses/discriminators";
export { tinyEncoderDistillation } from "./encoder-distillation.js";
