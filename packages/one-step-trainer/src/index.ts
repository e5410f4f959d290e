export {
  oneStepGenerator,
  type ConditionableProgram,
  type Conditioning,
  type ExternalScore,
  type FeatureExtractor,
  type Generator,
  type NetworkInputs,
  type Sampler,
  type ScoreFunction,
} from "./plug-ins.js";
export { featureMatchingWarmup, type FeatureMatchingWarmupOptions } from "./feature-matching-warmup.js";
export {
  consistencyDistillation,
  type ConsistencyDistillationOptions,
  type ConsistencyInput,
} from "./consistency-distillation.js";
export {
  consistencyDistillationTask,
  type ConsistencyDistillationTaskOptions,
  type ConsistencySamples,
} from "./consistency-distillation-task.js";
export { type Guidance } from "./guidance.js";
export { noiseImagePairs, type NoiseImageBatch, type NoiseImagePairsOptions } from "./noise-image-pairs.js";
export {
  segmentedScoreDistillation,
  type OnlineInput,
  type SegmentedScoreDistillation,
  type SegmentedScoreDistillationOptions,
  type StudentInput,
} from "./segmented-score-distillation.js";
export { externallyScoredDistillation, type ExternallyScoredDistillation } from "./externally-scored-distillation.js";
export { type ScoreModels, type ScoreWeight } from "./score-difference.js";
export {
  segmentedScoreDistillationTask,
  type SegmentedScoreDistillationTaskOptions,
} from "./segmented-score-distillation-task.js";
export {
  distributionMatchingDistillation,
  type DistributionMatchingDistillation,
  type DistributionMatchingDistillationOptions,
  type MatchingOnlineInput,
  type MatchingStudentInput,
} from "./distribution-matching-distillation.js";
export {
  distributionMatchingDistillationTask,
  type DistributionMatchingDistillationTaskOptions,
  type RealBatch,
} from "./distribution-matching-distillation-task.js";
export { type ScoreDistillationTask, type ScoreDistillationTaskOptions } from "./score-distillation-task.js";
export { type Optimisation, type PairBatch, type TaskOptions, type Triplet } from "./task-options.js";
export { redrawNoise } from "./redraw-noise.js";
export { controlTriplets, type ControlTriplets } from "./control-triplets.js";
export {
  controlNetScoreDistillationTask,
  controlNetWarmupTask,
  type ControlledNetwork,
  type ControlNetScoreDistillationTaskOptions,
  type ControlNetTraining,
  type ControlNetWarmupTaskOptions,
} from "./one-step-controlnet.js";
export {
  loraDistillationTask,
  type LoraDistillationTask,
  type LoraDistillationTaskOptions,
} from "./lora-distillation-task.js";
export {
  textureFinetune,
  type TextureFinetune,
  type TextureFinetuneOptions,
  type TextureInput,
} from "./texture-finetune.js";
export {
  textureFinetuneTask,
  type TextureFinetuneTask,
  type TextureFinetuneTaskOptions,
} from "./texture-finetune-task.js";
export { featureDiscriminatorParameters, type FeatureDiscriminator } from "./feature-discriminator.js";
export { distillationWarnings, saturatedShare } from "./diagnostics.js";
