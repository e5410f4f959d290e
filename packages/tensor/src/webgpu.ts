export type { Webgpu, WebgpuBuffer, WebgpuDevice } from "./core/platform.js";
export { webgpuBackend, type WebgpuBackendOptions } from "./webgpu/backend.js";
export { DAWN_FEATURES, requestGpuDevice } from "./webgpu/device.js";
export type { GpuTensor } from "./webgpu/memory.js";
export type { TuningStore } from "./webgpu/tuning/tuning-store.js";
