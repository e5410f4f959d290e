export { exportOnnx, onnxBackend, traceProgram, type OnnxBackendOptions, type OnnxRuntime } from "./onnx/backend.js";
export type { LoweredGraph, LoweredOutput } from "./onnx/lower.js";
export type { OnnxGraph, SerializedModel } from "./onnx/model.js";
