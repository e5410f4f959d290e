export {
  parseTextEncoderConfig,
  textEncoder,
  textEncoderParameters,
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
