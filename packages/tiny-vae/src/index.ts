export {
  autoencoderTinyParameters,
  decodeTiny,
  encodeTiny,
  parseAutoencoderTinyConfig,
  scaleLatents,
  tinyDecoderParameters,
  tinyEncoderParameters,
  unscaleLatents,
  type AutoencoderTinyConfig,
} from "./autoencoder-tiny.js";
export {
  autoencoderKlParameters,
  decodeKl,
  encodeKl,
  klDecoderParameters,
  klEncoderParameters,
  parseAutoencoderKlConfig,
  posteriorKl,
  samplePosterior,
  type AutoencoderKlConfig,
  type Posterior,
} from "./autoencoder-kl.js";
export { tinyDecoderDistillation, type TinyDecoderDistillationOptions } from "./distillation.js";
