export { discriminatorLoss, generatorLoss, type AdversarialLoss } from "./adversarial.js";
export { denoisingLoss, minSnrWeights, type DenoisingOptions } from "./denoising.js";
export { downsample, type DownsamplingFilter } from "./downsample.js";
export { featureDistillationLoss, type FeatureDistillationOptions } from "./feature-distillation.js";
export { featureMatchingLoss, type FeatureMatchingOptions } from "./feature-matching.js";
export { featureSimilarity, type FeatureSimilarity, type FeatureSimilarityOptions } from "./feature-similarity.js";
export { gaussianSsim, gaussianSsimMap, type GaussianSsimOptions } from "./gaussian-ssim.js";
export { huber, type HuberOptions } from "./huber.js";
export { klDivergence } from "./kl-divergence.js";
export { l1 } from "./l1.js";
export { mse } from "./mse.js";
export { multiScaleSsim, type MultiScaleSsimOptions } from "./multi-scale-ssim.js";
export { outputDistillationLoss } from "./output-distillation.js";
export { perceptualDistance, type PerceptualDistanceOptions } from "./perceptual-distance.js";
export { pseudoHuber, type PseudoHuberOptions } from "./pseudo-huber.js";
export { r1Penalty } from "./r1-penalty.js";
export {
  distributionMatchingLoss,
  scoreDistillationLoss,
  scoreDistillationWeights,
  type ScoreDistillationOptions,
} from "./score-distillation.js";
export { vaeDistillationLoss, type VaeDistillationOptions } from "./vae-distillation.js";
