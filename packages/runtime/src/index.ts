export {
  joinTextEncodings,
  parseTextEncoderConfig,
  textEncoder,
  textEncoderParameters,
  type JoinedTextEncodings,
  type TextEncoderConfig,
  type TextEncoderOptions,
  type TextEncoding,
} from "./clip/text-encoder.js";
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
} from "./clip/clip-model.js";
export {
  loadTokenizer,
  type AddedToken,
  type EncodedPrompt,
  type PromptTokenizer,
  type TokenizerConfig,
  type TokenizerFiles,
} from "./clip/tokenizer.js";
export { createPipeline } from "./pipeline/pipeline.js";
export type {
  GenerateOptions,
  GeneratedImages,
  Pipeline,
  PipelineOptions,
  StageTimes,
} from "./pipeline/pipeline-types.js";
export type { TextToImageComponents } from "./checkpoints/components.js";
export { readTextualInversion, withTextualInversions, type TextualInversion } from "./pipeline/textual-inversion.js";
export type { PipelineCalibration } from "./pipeline/pipeline-types.js";
export { calibratePipeline } from "./pipeline/calibrate-pipeline.js";
export { samplingDefaults, type SamplingDefaults } from "./pipeline/sampling-defaults.js";
export type { PipelineLora } from "./pipeline/pipeline-loras.js";
export type { OnWarning, PipelineWarning, WarningCode } from "./checkpoints/pipeline-warnings.js";
export type { PictureStream, StreamRequest, StreamedImages } from "./pipeline/pipeline-types.js";
export { servePipeline, workerPipeline, type WorkerPort } from "./pipeline/worker-pipeline.js";
export {
  fromImageSource,
  fromRgba,
  toImageBitmaps,
  toRgba,
  type Bitmap,
  type BitmapSource,
  type RgbaImage,
} from "./images/pictures.js";
export { fromPng, toPng } from "./images/png.js";
export { fittingSize, trainedSize, wholeLatents, type PictureSize } from "./pipeline/picture-size.js";
export { resizePicture, type ResizeOptions } from "./images/resize-picture.js";
export { fetchModel, fetchPipeline, type FetchPipelineOptions } from "./checkpoints/fetch-pipeline.js";
export type { Fetch, HttpOptions } from "./checkpoints/http-requests.js";
export type { FetchOptions, FetchProgress } from "./checkpoints/web-files.js";
export type { FileCache, KeptFile } from "./checkpoints/file-cache.js";
export type { LoadModelOptions, Model } from "./checkpoints/open-model.js";
export type { ModelClassName, ModelConfigs } from "./checkpoints/model-classes.js";
export type { ComponentName, PipelineComponents, PipelineSettings } from "./checkpoints/components.js";
export type { LoadPipelineFolderOptions, LoadedPipelineFolder, PipelineFolder } from "./checkpoints/open-pipeline.js";
