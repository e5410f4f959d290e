export { csvLog } from "./csv-log.js";
export { fileCheckpoints, type FileCheckpointOptions } from "./file-checkpoints.js";
