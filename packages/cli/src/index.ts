export type { PictureSize } from "@sdxs/runtime";
export { imageServer, type ImageServer, type ImageServerOptions } from "./image-server.js";
