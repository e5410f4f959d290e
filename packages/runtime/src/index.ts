export {
  joinTextEncodings,
  parseTextEncoderConfig,
  textEncoder,
  textEncoderParameters,
  type JoinedTextEncodings,
  type TextEncoderConfig,
  type TextEncoderOptions,
  type TextEncoding,
} from "./text-encoder.js";
export {
  clipModel,
  clipModelParameters,
  clipPixelStatistics,
  clipPixels,
  clipScore,
  parseClipConfig,
  parseVisionEncoderConfig,
  visionEncoder,
  visionEncoderParameters,
  type ClipConfig,
  type ClipInputs,
  type ClipOutputs,
  type ClipPixelStatistics,
  type VisionEncoderConfig,
  type VisionEncoderOptions,
  type VisionEncoding,
} from "./clip-model.js";
export {
  loadTokenizer,
  type AddedToken,
  type EncodedPrompt,
  type PromptTokenizer,
  type TokenizerConfig,
  type TokenizerFiles,
} from "./tokenizer.js";
export {
  createPipeline,
  type GenerateOptions,
  type GeneratedImages,
  type Pipeline,
  type PipelineOptions,
  type StageTimes,
  type TextToImageComponents,
} from "./pipeline.js";
export { readTextualInversion, withTextualInversions, type TextualInversion } from "./textual-inversion.js";
export { calibratePipeline, type PipelineCalibration } from "./calibrate-pipeline.js";
export { samplingDefaults, type SamplingDefaults } from "./sampling-defaults.js";
export type { PipelineLora } from "./pipeline-loras.js";
export type { OnWarning, PipelineWarning, WarningCode } from "./pipeline-warnings.js";
export type { PictureStream, StreamRequest, StreamedImages } from "./pipeline-stream.js";
export { servePipeline, workerPipeline, type WorkerPort } from "./worker-pipeline.js";
export {
  fromImageSource,
  fromRgba,
  toImageBitmaps,
  toRgba,
  type Bitmap,
  type BitmapSource,
  type RgbaImage,
} from "./pictures.js";
export { fromPng, toPng } from "./png.js";
export { fittingSize, trainedSize, wholeLatents, type PictureSize } from "./picture-size.js";
export { resizePicture, type ResizeOptions } from "./resize-picture.js";
export { fetchModel, fetchPipeline, type FetchPipelineOptions } from "./fetch-pipeline.js";
export type { Fetch, HttpOptions } from "./http-requests.js";
export type { FetchOptions, FetchProgress } from "./web-files.js";
export type { FileCache, KeptFile } from "./file-cache.js";
export type { LoadModelOptions, Model } from "./open-model.js";
export type { ModelClassName, ModelConfigs } from "./model-classes.js";
export type {
  ComponentName,
  LoadPipelineFolderOptions,
  LoadedPipelineFolder,
  PipelineComponents,
  PipelineFolder,
  PipelineSettings,
} from "./open-pipeline.js";
