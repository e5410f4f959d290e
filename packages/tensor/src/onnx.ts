export { exportOnnx, onnxBackend, traceProgram, type ExportOnnxOptions, type ExportOnnxSpec } from "./onnx/backend.js";
export type { LoweredGraph, LoweredOutput } from "./onnx/lower.js";
export type { LoweringOptions } from "./onnx/lowering.js";
export type { OnnxGraph, SerializedModel } from "./onnx/model.js";
export type { OpenShape } from "./onnx/open-sizes.js";
export type { GpuBufferOptions, OnnxRuntime, OnnxSession, OnnxTensor } from "./onnx/onnxruntime.js";
export type { OnnxBackendOptions } from "./onnx/runtime.js";
export { disableTelemetry } from "./onnx/telemetry.js";
export type { TraceOptions } from "./onnx/trace-options.js";
