export { tfjsBackend, type TfjsBackendName, type TfjsBackendOptions } from "./tfjs/backend.js";
export { tfjsOps } from "./tfjs/ops.js";
export type { TensorFlow } from "./tfjs/lazy.js";
