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
  loadTokenizer,
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
export { toRgba, type RgbaImage } from "./pictures.js";
