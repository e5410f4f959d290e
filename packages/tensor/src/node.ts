export {
  openSafetensorsFile,
  readJsonFile,
  readSafetensorsFile,
  replaceFile,
  replaceFiles,
  writeSafetensorsFile,
  type FileContent,
  type SafetensorsFile,
} from "./node/files.js";
export {
  openCheckpoint,
  writeCheckpoint,
  type OpenCheckpointOptions,
  type WriteCheckpointOptions,
} from "./node/checkpoint.js";
