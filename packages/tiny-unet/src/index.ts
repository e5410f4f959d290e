export {
  parseUNetConfig,
  unetStages,
  type PerLevel,
  type UNetConfig,
  type UNetStage,
  type UNetStages,
} from "./unet-config.js";
export {
  namedFeatures,
  sinusoidalEmbedding,
  unet,
  unetEncoder,
  unetEncoderParameters,
  unetParameters,
  type UNetEncoderFeatures,
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
export { unetDistillation, type UNetDistillationOptions } from "./distillation.js";
