export {
  applyLora,
  loraParameters,
  loraScope,
  loraTargets,
  mergeLora,
  unmergeLora,
  type HostLoraAdapter,
  type Lora,
  type LoraAdapter,
  type LoraOptions,
  type LoraTarget,
} from "./lora.js";
export {
  readLora,
  writeLora,
  type LoadedLoras,
  type LoraComponent,
  type LoraFile,
  type LoraModels,
  type LoraNaming,
  type LoraWarning,
} from "./files.js";
