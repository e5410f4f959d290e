export { webgpuBackend, type WebgpuBackendOptions } from "./webgpu/backend.js";
export { requestGpuDevice } from "./webgpu/device.js";
export type { GpuTensor } from "./webgpu/memory.js";
