export { cachedRows, type CachedRowsOptions } from "./cached-rows.js";
export { csvLog } from "./csv-log.js";
export { fileCheckpoints, type FileCheckpointOptions } from "./file-checkpoints.js";
export { pictureLog, type PictureLogOptions } from "./picture-log.js";
export { tensorBoardLog } from "./tensorboard-log.js";
