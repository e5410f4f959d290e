import {
  InvalidArgumentError,
  ShapeError,
  configReader,
  declareParameters,
  finiteNumber,
  layerNormLayer,
  linearLayer,
  normal,
  oneOf,
  positiveInteger,
  type OnUnknownFields,
  type Ops,
  type ParameterSpec,
  type Scope,
} from "@sdxs/tensor";
import { checkHeads, clipLayers, type ClipLayersConfig } from "./clip-layers.js";

/** The configuration of a CLIP text encoder, in the fields of transformers' `CLIPTextConfig`. */
export interface TextEncoderConfig extends ClipLayersConfig {
  readonly vocab_size: number;
  /** Features of the projected embedding, see `TextEncoderOptions.projection`. */
  readonly projection_dim: number;
  /** The most tokens of a prompt; CLIP's 77 include the start and the end. */
  readonly max_position_embeddings: number;
  /** The token whose hidden state is the pooled one. 2: an early mistake of published configs; the largest id is meant. */
  readonly eos_token_id: number;
}

/**
 * Reads transformers' config.json of a `CLIPTextModel` or `CLIPTextModelWithProjection`. Absent fields take its defaults;
 * `onUnknown` hears of fields that are not the model's, which are ignored.
 * Throws `UnsupportedConfigError`, naming the field, its value and what is supported.
 */
export function parseTextEncoderConfig(json: unknown, onUnknown?: OnUnknownFields): TextEncoderConfig {
  const read = configReader("CLIPTextModel", json);
  read("model_type", oneOf(["clip_text_model"]), "clip_text_model");
  // diffusers' pipelines would then hide the padding from the encoder.
  read("use_attention_mask", oneOf([false, null]), false);
  read.skip(...WITHOUT_EFFECT);
  const config: TextEncoderConfig = {
    vocab_size: read("vocab_size", positiveInteger, 49408),
    hidden_size: read("hidden_size", positiveInteger, 512),
    intermediate_size: read("intermediate_size", positiveInteger, 2048),
    projection_dim: read("projection_dim", positiveInteger, 512),
    num_hidden_layers: read("num_hidden_layers", positiveInteger, 12),
    num_attention_heads: read("num_attention_heads", positiveInteger, 8),
    max_position_embeddings: read("max_position_embeddings", positiveInteger, 77),
    hidden_act: read("hidden_act", oneOf(["quick_gelu", "gelu"]), "quick_gelu"),
    layer_norm_eps: read("layer_norm_eps", finiteNumber, 1e-5),
    eos_token_id: read("eos_token_id", finiteNumber, 49407),
  };
  checkHeads("CLIPTextModel", config);
  read.reportUnknown(onUnknown);
  return config;
}

/** Fields of transformers for training, for models that generate text, and about the file. */
const WITHOUT_EFFECT = `
  add_cross_attention architectures attention_dropout bad_words_ids begin_suppress_tokens bos_token_id
  chunk_size_feed_forward cross_attention_hidden_size decoder_start_token_id diversity_penalty do_sample dropout
  dtype early_stopping encoder_no_repeat_ngram_size exponential_decay_length_penalty finetuning_task
  forced_bos_token_id forced_eos_token_id gradient_checkpointing id2label initializer_factor initializer_range
  is_decoder is_encoder_decoder label2id length_penalty max_length min_length no_repeat_ngram_size num_beam_groups
  num_beams num_return_sequences output_attentions output_hidden_states output_scores pad_token_id prefix
  problem_type pruned_heads remove_invalid_values repetition_penalty return_dict return_dict_in_generate
  sep_token_id suppress_tokens task_specific_params temperature tf_legacy_loss tie_encoder_decoder
  tie_word_embeddings tokenizer_class top_k top_p torch_dtype torchscript transformers_version typical_p
  use_bfloat16 use_cache
`
  .trim()
  .split(/\s+/);

/** [tokens, tokens]: 0 where a token may look (itself and before), the lowest float32 elsewhere. */
function causalMask<T>(ops: Ops<T>, tokens: number): T {
  const lowest = -(2 - 2 ** -23) * 2 ** 127;
  const mask = Float32Array.from({ length: tokens * tokens }, (_, index) => {
    return index % tokens > Math.floor(index / tokens) ? lowest : 0;
  });
  return ops.constant(mask, [tokens, tokens]);
}

/** One row of x [batch, tokens, features] per sample: that of the end token in ids [batch, tokens]. [batch, features] */
function pool<T>(ops: Ops<T>, x: T, ids: T, endToken: number): T {
  const [batch = 1, tokens = 1, features = 1] = ops.shape(x);
  const numbers = ops.cast(ids, "float32"); // exact: vocabularies are far below 2^24
  const marked = endToken === 2 ? numbers : ops.cast(ops.equal(numbers, endToken), "float32");
  const position = ops.reshape(ops.cast(ops.argMax(marked, 1), "float32"), [batch, 1]);
  const positions = ops.constant(
    Float32Array.from({ length: tokens }, (_, index) => index),
    [1, tokens],
  );
  const oneHot = ops.cast(ops.equal(positions, position), "float32"); // [batch, tokens]
  return ops.reshape(ops.matmul(ops.reshape(oneHot, [batch, 1, tokens]), x), [batch, features]);
}

export interface TextEncoderOptions {
  /** `CLIPTextModelWithProjection`: give `textEmbeds`, which needs the parameter text_projection.weight. Default false. */
  readonly projection?: boolean;
}

export interface TextEncoding<T> {
  /** The last layer's output, normalised [batch, tokens, hidden_size]: what Stable Diffusion 1 and 2 and SDXS-512 attend to. */
  readonly lastHiddenState: T;
  /** The embeddings and each layer's output, not normalised. Stable Diffusion XL attends to the last but one. */
  readonly hiddenStates: readonly T[];
  /** The last but one of `hiddenStates`, normalised: diffusers' clip_skip = 1. */
  readonly penultimateNormalized: T;
  /** `lastHiddenState` at the end token [batch, hidden_size]. */
  readonly pooled: T;
  /** `pooled`, projected [batch, projection_dim]; undefined without `projection`. */
  readonly textEmbeds: T | undefined;
}

/**
 * CLIP's text encoder under transformers' parameter names ("text_model.embeddings.token_embedding.weight", ...).
 * Token ids [batch, tokens] int32, at most max_position_embeddings tokens.
 *
 * @example
 * const { lastHiddenState } = textEncoder(ops, scope(ops, params), config, ids);
 */
export function textEncoder<T>(
  ops: Ops<T>,
  p: Scope<T>,
  config: TextEncoderConfig,
  ids: T,
  options: TextEncoderOptions = {},
): TextEncoding<T> {
  const shape = ops.shape(ids);
  const tokens = shape[1] ?? 0;
  if (shape.length !== 2 || tokens < 1 || tokens > config.max_position_embeddings) {
    throw new ShapeError(
      `textEncoder: ids must be [batch, tokens] with 1 to ${config.max_position_embeddings} tokens, got [${shape.join(", ")}]. ` +
        `Truncate longer prompts.`,
    );
  }
  const model = p.at("text_model");
  const embedding = (name: string, rows: number): T =>
    model.at(`embeddings.${name}`).param("weight", [rows, config.hidden_size], normal(0.02)); // CLIP, section 2.5
  const tokenEmbeddings = ops.gather(embedding("token_embedding", config.vocab_size), ids, 0); // [batch, tokens, hidden]
  const positions = ops.slice(embedding("position_embedding", config.max_position_embeddings), 0, 0, tokens);

  const hiddenStates = clipLayers(ops, model, ops.add(tokenEmbeddings, positions), config, causalMask(ops, tokens));
  const [penultimate, last] = hiddenStates.slice(-2) as [T, T];
  const normalized = (x: T): T => layerNormLayer(ops, model.at("final_layer_norm"), x, config.layer_norm_eps);
  const lastHiddenState = normalized(last);
  const pooled = pool(ops, lastHiddenState, ids, config.eos_token_id);
  const textEmbeds = options.projection
    ? linearLayer(ops, p.at("text_projection"), pooled, config.projection_dim, { bias: false })
    : undefined;
  return { lastHiddenState, hiddenStates, penultimateNormalized: normalized(penultimate), pooled, textEmbeds };
}

/** What Stable Diffusion XL's U-Net takes of its two text encoders, under the names of its inputs. */
export interface JoinedTextEncodings<T> {
  /** [batch, tokens, hidden_size of the first + hidden_size of the second]; 768 + 1280 in XL. */
  readonly encoderHiddenStates: T;
  /** Of the second [batch, projection_dim]; 1280 in XL. For `addedConditions`. */
  readonly textEmbeds: T;
}

/**
 * Joins the encodings of the same prompts by Stable Diffusion XL's two text encoders, as `encode_prompt` of diffusers'
 * `StableDiffusionXLPipeline` does: the last but one hidden states of both, not normalised, and the pooled projection of
 * the second. Each encoder has a tokenizer of its own, since the second pads with "!".
 *
 * In guidance, an absent negative prompt is zeros of these shapes where the pipeline's force_zeros_for_empty_prompt is true,
 * as in XL's release, and the empty prompt's encodings otherwise.
 *
 * @throws InvalidArgumentError where the second has no `textEmbeds`, ShapeError where batch or tokens differ.
 *
 * @example
 * const first = textEncoder(ops, p.at("text_encoder"), config, ids); // ids: tokenizer.encodeBatch(prompts)
 * const second = textEncoder(ops, p.at("text_encoder_2"), config2, ids2, { projection: true });
 * const { encoderHiddenStates, textEmbeds } = joinTextEncodings(ops, first, second);
 * unet(ops, p.at("unet"), unetConfig, { ...inputs, encoderHiddenStates, addedConditions: { textEmbeds, timeIds } });
 */
export function joinTextEncodings<T>(
  ops: Ops<T>,
  first: TextEncoding<T>,
  second: TextEncoding<T>,
): JoinedTextEncodings<T> {
  if (second.textEmbeds === undefined) {
    throw new InvalidArgumentError(
      "joinTextEncodings: the second encoding has no textEmbeds. Call its textEncoder with { projection: true }.",
    );
  }
  const states = [first, second].map(({ hiddenStates }) => hiddenStates.at(-2) as T);
  const [one = [], two = []] = states.map((state) => ops.shape(state));
  if (one[0] !== two[0] || one[1] !== two[1]) {
    throw new ShapeError(
      `joinTextEncodings: both need the same batch and tokens, got hidden states [${one.join(", ")}] and [${two.join(", ")}]. ` +
        `Encode the same prompts at one length.`,
    );
  }
  return { encoderHiddenStates: ops.concat(states, 2), textEmbeds: second.textEmbeds };
}

/** Names, shapes and initialisations of the parameters of `textEncoder`; nothing is computed. */
export function textEncoderParameters(
  config: TextEncoderConfig,
  options: TextEncoderOptions = {},
): Record<string, ParameterSpec> {
  return declareParameters((ops, p, { ids }) => textEncoder(ops, p, config, ids, options), {
    ids: { shape: [1, 1], dtype: "int32" },
  });
}
