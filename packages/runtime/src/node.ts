export { loadModel, saveModel, type LoadModelOptions, type Model, type SaveModelOptions } from "./model-folder.js";
export type { ModelClassName, ModelConfigs } from "./model-classes.js";
export {
  loadPipelineFolder,
  savePipelineFolder,
  type ComponentName,
  type LoadPipelineFolderOptions,
  type LoadedPipelineFolder,
  type PipelineComponents,
  type PipelineFolder,
} from "./pipeline-folder.js";
export { loadTokenizerFolder, saveTokenizerFolder } from "./tokenizer-folder.js";
