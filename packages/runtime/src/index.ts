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
