export { loadModel, saveModel, type LoadModelOptions, type Model, type SaveModelOptions } from "./model-folder.js";
export type { ModelClassName, ModelConfigs } from "./model-classes.js";
