export {
  oneStepGenerator,
  type ConditionableProgram,
  type Conditioning,
  type ExternalScore,
  type FeatureExtractor,
  type Generator,
  type NetworkInputs,
  type NoiseImageBatch,
  type Sampler,
  type ScoreFunction,
} from "./shared/plug-ins.js";
export {
  featureMatchingWarmup,
  type FeatureMatchingWarmupOptions,
} from "./feature-matching-warmup/feature-matching-warmup.js";
export {
  consistencyDistillation,
  type ConsistencyDistillationOptions,
  type ConsistencyInput,
} from "./consistency-distillation/consistency-distillation.js";
export {
  consistencyDistillationTask,
  type ConsistencyDistillationTaskOptions,
  type ConsistencySamples,
} from "./consistency-distillation/consistency-distillation-task.js";
export { type Guidance } from "./shared/guidance.js";
export { noiseImagePairs, type NoiseImagePairsOptions } from "./shared/noise-image-pairs.js";
export {
  segmentedScoreDistillation,
  type OnlineInput,
  type SegmentedScoreDistillation,
  type SegmentedScoreDistillationOptions,
  type StudentInput,
} from "./segmented-score-distillation/segmented-score-distillation.js";
export {
  externallyScoredDistillation,
  type ExternallyScoredDistillation,
} from "./segmented-score-distillation/externally-scored-distillation.js";
export { type ScoreModels, type ScoreWeight } from "./shared/score-difference.js";
export {
  segmentedScoreDistillationTask,
  type SegmentedScoreDistillationTaskOptions,
} from "./segmented-score-distillation/segmented-score-distillation-task.js";
export {
  distributionMatchingDistillation,
  type DistributionMatchingDistillation,
  type DistributionMatchingDistillationOptions,
  type MatchingOnlineInput,
  type MatchingStudentInput,
} from "./distribution-matching-distillation/distribution-matching-distillation.js";
export {
  distributionMatchingDistillationTask,
  type DistributionMatchingDistillationTaskOptions,
  type RealBatch,
} from "./distribution-matching-distillation/distribution-matching-distillation-task.js";
export { type ScoreDistillationTask, type ScoreDistillationTaskOptions } from "./shared/score-distillation-task.js";
export { type Optimisation, type PairBatch, type TaskOptions, type Triplet } from "./shared/task-options.js";
export { redrawNoise } from "./shared/redraw-noise.js";
export { controlTriplets, type ControlTriplets } from "./controlnet/control-triplets.js";
export {
  controlNetScoreDistillationTask,
  controlNetWarmupTask,
  type ControlledNetwork,
  type ControlNetScoreDistillationTaskOptions,
  type ControlNetTraining,
  type ControlNetWarmupTaskOptions,
} from "./controlnet/one-step-controlnet.js";
export {
  loraDistillationTask,
  type LoraDistillationTask,
  type LoraDistillationTaskOptions,
} from "./lora/lora-distillation-task.js";
export {
  textureFinetune,
  type TextureFinetune,
  type TextureFinetuneOptions,
  type TextureInput,
} from "./texture-finetune/texture-finetune.js";
export {
  textureFinetuneTask,
  type TextureFinetuneTask,
  type TextureFinetuneTaskOptions,
} from "./texture-finetune/texture-finetune-task.js";
export { featureDiscriminatorParameters, type FeatureDiscriminator } from "./shared/feature-discriminator.js";
export { distillationWarnings, saturatedShare } from "./shared/diagnostics.js";
