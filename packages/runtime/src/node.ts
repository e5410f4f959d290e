export { loadModel, saveModel, type SaveModelOptions } from "./model-folder.js";
export type { LoadModelOptions, Model } from "./open-model.js";
export type { ModelClassName, ModelConfigs } from "./model-classes.js";
export { loadPipelineFolder, savePipelineFolder } from "./pipeline-folder.js";
export type {
  ComponentName,
  LoadPipelineFolderOptions,
  LoadedPipelineFolder,
  PipelineComponents,
  PipelineFolder,
  PipelineSettings,
} from "./open-pipeline.js";
export { loadTokenizerFolder, saveTokenizerFolder } from "./tokenizer-folder.js";
export { diskCache } from "./disk-cache.js";
export { readPicture } from "./read-picture.js";
export { hubEnvironment } from "./hub-environment.js";
