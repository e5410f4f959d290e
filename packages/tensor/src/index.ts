export { checkFields, hostShape, kindOf, layoutHint, tensorShape, unknownName } from "./core/arguments.js";
export {
  InvalidArgumentError,
  MalformedFileError,
  MissingPackageError,
  ParameterError,
  SdxsError,
  ShapeError,
  UnsupportedConfigError,
  type ErrorCode,
} from "./core/errors.js";
export { HostTensor, sizeOf, type DType, type HostData, type Shape } from "./core/host-tensor.js";
export type {
  Conv2dOptions,
  FusedOps,
  LossAndAux,
  MatmulOptions,
  Operand,
  Ops,
  Padding,
  ReduceOptions,
  TensorMap,
} from "./core/ops.js";
export type {
  Backend,
  Calibration,
  CompiledProgram,
  CompileSpec,
  ParameterSpec,
  Program,
  Range,
  TensorSpec,
  WeightRanges,
} from "./core/program.js";
export type { AdamWOptions, StepReport, Trainable } from "./core/trainable.js";
export { checkParameters, mapTensors, prefixed, select, specsOf, type HostParams } from "./core/parameters.js";
export { declareParameters } from "./graph/declare-parameters.js";
export { scope, type Scope } from "./nn/scope.js";
export {
  attention,
  gelu,
  gradientCheckpoint,
  groupNorm,
  layerNorm,
  linear,
  multiHeadAttention,
  quickGelu,
  silu,
} from "./nn/functional.js";
export {
  convLayer,
  groupNormLayer,
  layerNormLayer,
  linearLayer,
  type ConvLayerOptions,
  type LinearLayerOptions,
} from "./nn/layers.js";
export { fanInUniform, normal, ones, uniform, zeros, type Initializer } from "./core/initializers.js";
export { random, type Random, type StreamName } from "./core/random.js";
export type { Address, PlatformClass, Signal } from "./core/platform.js";
export { breather, nextTurn } from "./core/breather.js";
export { downloadAll } from "./core/download.js";
export { initialize } from "./nn/initialize.js";
export { decodeBfloat16, decodeFloat16, encodeBfloat16, encodeFloat16 } from "./weights/half.js";
export {
  openSafetensors,
  parseSafetensorsHeader,
  readSafetensors,
  safetensorsChunks,
  safetensorsHeaderLength,
  writeSafetensors,
  type RandomAccessSource,
  type SafetensorsDType,
  type SafetensorsHeader,
  type SafetensorsInfo,
  type SafetensorsReader,
  type WriteSafetensorsOptions,
} from "./weights/safetensors.js";
export { formatJson, parseJson } from "./core/json.js";
export { readJson, type ModelFiles, type SafetensorsFile } from "./weights/model-files.js";
export { openWeights, openWeightsFile, type OpenWeightsOptions } from "./weights/checkpoint.js";
export {
  constantSchedule,
  cosineSchedule,
  polynomialSchedule,
  warmupSchedule,
  type DecayOptions,
  type PolynomialOptions,
  type Schedule,
  type WarmupOptions,
} from "./optim/schedules.js";
export {
  adamW,
  type AdamW,
  type AdamWResult,
  type AdamWState,
  type AdamWUpdate,
  type BiasCorrections,
  type ResolvedAdamWOptions,
} from "./optim/adamw.js";
export {
  configReader,
  either,
  finiteNumber,
  flag,
  listOf,
  nullable,
  oneOf,
  positiveInteger,
  wholeNumber,
  type ConfigReader,
  type FieldType,
  type OnUnknownFields,
} from "./weights/model-config.js";
export { calibrate } from "./nn/calibration.js";
export { withGradients } from "./optim/gradients.js";
export { forwardBackend, type ForwardDevice } from "./forward/forward-backend.js";
export type { ForwardConv2dOptions, ForwardOps } from "./forward/compute.js";
export { programTrainable, type ProgramDevice } from "./optim/program-layout.js";
export { countArithmetic, type Arithmetic } from "./graph/arithmetic.js";
