export { csvLog } from "./csv-log.js";
export { fileCheckpoints, type FileCheckpointOptions } from "./file-checkpoints.js";
export { tensorBoardLog } from "./tensorboard-log.js";
