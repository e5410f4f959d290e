export type { PictureSize } from "./command-line.js";
export { imageServer, type ImageServer, type ImageServerOptions } from "./image-server.js";
