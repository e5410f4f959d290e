export {
  featureMatchingWarmup,
  type DiffusionNetwork,
  type FeatureExtractor,
  type FeatureMatchingWarmupOptions,
  type NetworkInputs,
} from "./feature-matching-warmup.js";
export { noiseImagePairs, type NoiseImageBatch, type NoiseImagePairsOptions } from "./noise-image-pairs.js";
