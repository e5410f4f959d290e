export {
  parseUNetConfig,
  unetEncoderStages,
  unetStages,
  type PerLevel,
  type UNetConfig,
  type UNetEncoderConfig,
  type UNetEncoderStages,
  type UNetStage,
  type UNetStages,
} from "./unet-config.js";
export {
  checkUNetInputs,
  guidanceScaleEmbedding,
  namedFeatures,
  sinusoidalEmbedding,
  unet,
  unetConditioning,
  unetEncoder,
  unetEncoderBlocks,
  unetEncoderParameters,
  unetInputSpecs,
  unetInputs,
  unetParameters,
  type ControlResiduals,
  type UNetConditioning,
  type UNetEncoderFeatures,
  type UNetEncoderInputs,
  type UNetFeatures,
  type UNetInputs,
} from "./unet.js";
export {
  blockRemovalPresets,
  copyParameters,
  planBlockRemoval,
  type BlockRemoval,
  type BlockRemovalPlan,
  type BlockRemovalPreset,
} from "./block-removal.js";
export { costTable, studentCosts, totalCost, unetCosts, type BlockCost, type UNetSize } from "./costs.js";
export { publishedUNets, type PublishedUNet } from "./published-configs.js";
export {
  unetDistillation,
  unetDistillationLoss,
  type UNetDistillationOptions,
  type UNetDistillationWeights,
} from "./distillation.js";
