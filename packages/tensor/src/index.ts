export {
  InvalidArgumentError,
  MalformedFileError,
  MissingPackageError,
  ParameterError,
  SdxsError,
  ShapeError,
  UnsupportedConfigError,
  type ErrorCode,
} from "./errors.js";
export { HostTensor, sizeOf, type DType, type HostData, type Shape } from "./host-tensor.js";
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
} from "./ops.js";
export type {
  Backend,
  CompileSpec,
  CompiledProgram,
  ParameterSpec,
  Program,
  StepReport,
  TensorSpec,
  Trainable,
} from "./program.js";
export {
  checkParameters,
  declareParameters,
  mapTensors,
  prefixed,
  scope,
  select,
  specsOf,
  type HostParams,
  type Scope,
} from "./scope.js";
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
} from "./functional.js";
export {
  convLayer,
  groupNormLayer,
  layerNormLayer,
  linearLayer,
  type ConvLayerOptions,
  type LinearLayerOptions,
} from "./layers.js";
export { fanInUniform, normal, ones, uniform, zeros, type Initializer } from "./initializers.js";
export { random, type Random, type StreamName } from "./random.js";
export { breather, nextTurn } from "./breather.js";
export { downloadAll } from "./download.js";
export { initialize } from "./initialize.js";
export { decodeBfloat16, decodeFloat16, encodeBfloat16, encodeFloat16 } from "./half.js";
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
} from "./safetensors.js";
export { formatJson, parseJson } from "./json.js";
export { readJson, type ModelFiles, type SafetensorsFile } from "./model-files.js";
export { openWeights, type OpenWeightsOptions } from "./checkpoint.js";
export {
  constantSchedule,
  cosineSchedule,
  polynomialSchedule,
  warmupSchedule,
  type DecayOptions,
  type PolynomialOptions,
  type Schedule,
  type WarmupOptions,
} from "./schedules.js";
export {
  adamW,
  type AdamW,
  type AdamWOptions,
  type AdamWResult,
  type AdamWState,
  type AdamWUpdate,
  type BiasCorrections,
  type ResolvedAdamWOptions,
} from "./adamw.js";
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
  type FieldType,
} from "./model-config.js";
export { calibrate, type Calibration, type Range, type WeightRanges } from "./calibration.js";
export { withGradients } from "./gradients.js";
export { forwardBackend, type ForwardDevice } from "./forward-backend.js";
export type { ForwardConv2dOptions, ForwardOps } from "./graph/compute.js";
export { programTrainable, type ProgramDevice } from "./program-trainable.js";
export { countArithmetic, type Arithmetic } from "./arithmetic.js";
