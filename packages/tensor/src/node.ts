export {
  diskFiles,
  openSafetensorsFile,
  readJsonFile,
  readSafetensorsFile,
  replaceFile,
  replaceFiles,
  writeSafetensorsFile,
  type FileContent,
} from "./node/files.js";
export {
  openCheckpoint,
  writeCheckpoint,
  type OpenCheckpointOptions,
  type WriteCheckpointOptions,
} from "./node/checkpoint.js";
export { fileTuningStore } from "./node/tuning-file.js";
export type { SafetensorsFile } from "./weights/model-files.js";
