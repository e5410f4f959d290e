import {
  UnsupportedConfigError,
  gelu,
  layerNormLayer,
  linearLayer,
  multiHeadAttention,
  quickGelu,
  type Ops,
  type Scope,
} from "@sdxs/tensor";

/** What the transformers of both of CLIP's towers are made by, in the fields of transformers' configurations. */
export interface ClipLayersConfig {
  readonly hidden_size: number;
  /** Features inside each feed-forward network. */
  readonly intermediate_size: number;
  readonly num_hidden_layers: number;
  readonly num_attention_heads: number;
  /** quick_gelu: CLIP by OpenAI (Stable Diffusion 1). gelu: OpenCLIP (Stable Diffusion 2, XL's second encoder). */
  readonly hidden_act: "quick_gelu" | "gelu";
  readonly layer_norm_eps: number;
}

/** Throws `UnsupportedConfigError` where the heads do not divide the features. */
export function checkHeads(
  modelName: string,
  { hidden_size: features, num_attention_heads: heads }: ClipLayersConfig,
): void {
  if (features % heads === 0) return;
  throw new UnsupportedConfigError(
    `${modelName}: "num_attention_heads" is ${heads}; supported: a divisor of "hidden_size" ${features}.`,
  );
}

/**
 * CLIPEncoder under the names "encoder.layers.0", ...: x [batch, tokens, features] and what each layer makes of it, not
 * normalised.
 *
 * @param mask added to the attention's logits [tokens, tokens]; default: each token sees all
 */
export function clipLayers<T>(ops: Ops<T>, p: Scope<T>, x: T, config: ClipLayersConfig, mask?: T): T[] {
  const states = [x];
  for (let layer = 0; layer < config.num_hidden_layers; layer++) {
    states.push(encoderLayer(ops, p.at(`encoder.layers.${layer}`), states[layer]!, config, mask));
  }
  return states;
}

/** CLIPEncoderLayer: attention and feed-forward network, each normalised first and around a residual. */
function encoderLayer<T>(ops: Ops<T>, p: Scope<T>, x: T, config: ClipLayersConfig, mask: T | undefined): T {
  const normalized = layerNormLayer(ops, p.at("layer_norm1"), x, config.layer_norm_eps);
  const h = ops.add(x, selfAttention(ops, p.at("self_attn"), normalized, config, mask));
  const activate = config.hidden_act === "quick_gelu" ? quickGelu : gelu;
  const input = layerNormLayer(ops, p.at("layer_norm2"), h, config.layer_norm_eps);
  const inner = activate(ops, linearLayer(ops, p.at("mlp.fc1"), input, config.intermediate_size));
  return ops.add(h, linearLayer(ops, p.at("mlp.fc2"), inner, config.hidden_size));
}

/** CLIPAttention. x [batch, tokens, features]. */
function selfAttention<T>(ops: Ops<T>, p: Scope<T>, x: T, config: ClipLayersConfig, mask: T | undefined): T {
  const [, , features = 1] = ops.shape(x);
  const project = (name: string): T => linearLayer(ops, p.at(name), x, features);
  const heads = config.num_attention_heads;
  const attended = multiHeadAttention(ops, project("q_proj"), project("k_proj"), project("v_proj"), heads, mask);
  return linearLayer(ops, p.at("out_proj"), attended, features);
}
