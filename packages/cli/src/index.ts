export type { PictureSize } from "./command-line.js";
export { imageServer, type ImageServer, type ImageServerOptions } from "./image-server.js";
export { main } from "./main.js";
export type { Terminal } from "./terminal.js";
