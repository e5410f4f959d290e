import {
  InvalidArgumentError,
  ShapeError,
  UnsupportedConfigError,
  configReader,
  convLayer,
  declareParameters,
  finiteNumber,
  gelu,
  layerNormLayer,
  linearLayer,
  multiHeadAttention,
  normal,
  oneOf,
  positiveInteger,
  type Ops,
  type ParameterSpec,
  type Scope,
} from "@sdxs/tensor";
import { cubic, resample } from "../resampling.js";
import { normalizedImages } from "./normalized-images.js";

/** The configuration of a DINOv2 vision transformer, in the fields of transformers' `Dinov2Config`. */
export interface DinoV2Config {
  readonly hidden_size: number;
  readonly num_hidden_layers: number;
  readonly num_attention_heads: number;
  /** Features inside each feed-forward network, as a multiple of `hidden_size`. */
  readonly mlp_ratio: number;
  readonly layer_norm_eps: number;
  /** Side in pixels of the images whose patches the position embeddings are for. */
  readonly image_size: number;
  /** Side of a patch in pixels. */
  readonly patch_size: number;
  /** Initial value of the layer scales. */
  readonly layerscale_value: number;
}

/**
 * Reads transformers' config.json of a `Dinov2Model`. Absent fields take its defaults.
 * Throws `UnsupportedConfigError`, naming the field, its value and what is supported.
 */
export function parseDinoV2Config(json: unknown): DinoV2Config {
  const read = configReader("Dinov2Model", json);
  read("model_type", oneOf(["dinov2"]), "dinov2");
  read("num_channels", oneOf([3]), 3);
  read("hidden_act", oneOf(["gelu"]), "gelu");
  read("qkv_bias", oneOf([true]), true);
  read("use_swiglu_ffn", oneOf([false]), false);
  const config: DinoV2Config = {
    hidden_size: read("hidden_size", positiveInteger, 768),
    num_hidden_layers: read("num_hidden_layers", positiveInteger, 12),
    num_attention_heads: read("num_attention_heads", positiveInteger, 12),
    mlp_ratio: read("mlp_ratio", positiveInteger, 4),
    layer_norm_eps: read("layer_norm_eps", finiteNumber, 1e-6),
    image_size: read("image_size", positiveInteger, 224),
    patch_size: read("patch_size", positiveInteger, 14),
    layerscale_value: read("layerscale_value", finiteNumber, 1),
  };
  if (config.hidden_size % config.num_attention_heads !== 0) {
    throw new UnsupportedConfigError(
      `Dinov2Model: "num_attention_heads" is ${config.num_attention_heads}; supported: a divisor of "hidden_size" ${config.hidden_size}.`,
    );
  }
  return config;
}

/** The published models, facebook/dinov2-small, -base and -large. */
export const dinoV2Presets: Readonly<Record<"small" | "base" | "large", DinoV2Config>> = {
  small: parseDinoV2Config({ image_size: 518, hidden_size: 384, num_attention_heads: 6 }),
  base: parseDinoV2Config({ image_size: 518 }),
  large: parseDinoV2Config({ image_size: 518, hidden_size: 1024, num_hidden_layers: 24, num_attention_heads: 16 }),
};

/** Patches and class token with their positions. images [batch, 3, h p, w p] gives [batch, 1 + h w, features]. */
function embeddings<T>(ops: Ops<T>, p: Scope<T>, config: DinoV2Config, images: T): T {
  const { hidden_size: features, patch_size: patch } = config;
  const projected = convLayer(ops, p.at("patch_embeddings.projection"), images, features, {
    kernel: patch,
    stride: patch,
    padding: 0,
  });
  const [batch = 1, , height = 1, width = 1] = ops.shape(projected);
  const patches = ops.transpose(ops.reshape(projected, [batch, features, height * width]), [0, 2, 1]);
  const classToken = p.param("cls_token", [1, 1, features], normal(0.02)); // Dinov2Config.initializer_range
  const tokens = ops.concat([ops.broadcastTo(classToken, [batch, 1, features]), patches], 1);
  return ops.add(tokens, positions(ops, p, config, height, width));
}

/** Position embeddings [1, 1 + height width, features], those of patches resized bicubically to other sizes. */
function positions<T>(ops: Ops<T>, p: Scope<T>, config: DinoV2Config, height: number, width: number): T {
  const { hidden_size: features } = config;
  const side = Math.floor(config.image_size / config.patch_size);
  const native = p.param("position_embeddings", [1, 1 + side * side, features], normal(0.02));
  if (height === side && width === side) return native;
  const grid = ops.reshape(ops.slice(native, 1, 1, side * side), [1, side, side, features]);
  // PyTorch's a where it does not antialias.
  const resized = resample(ops, ops.transpose(grid, [0, 3, 1, 2]), [height, width], cubic(-0.75), false);
  const patches = ops.reshape(ops.transpose(resized, [0, 2, 3, 1]), [1, height * width, features]);
  return ops.concat([ops.slice(native, 1, 0, 1), patches], 1);
}

/** Self-attention of x [batch, tokens, features]. */
function selfAttention<T>(ops: Ops<T>, p: Scope<T>, x: T, heads: number): T {
  const [, , features = 1] = ops.shape(x);
  const project = (name: string): T => linearLayer(ops, p.at(`attention.${name}`), x, features);
  const attended = multiHeadAttention(ops, project("query"), project("key"), project("value"), heads);
  return linearLayer(ops, p.at("output.dense"), attended, features);
}

/** Attention and feed-forward network, each normalised first, scaled per feature, around a residual. */
function block<T>(ops: Ops<T>, p: Scope<T>, x: T, config: DinoV2Config): T {
  const features = config.hidden_size;
  const normalized = (name: string, h: T): T => layerNormLayer(ops, p.at(name), h, config.layer_norm_eps);
  const scaled = (name: string, h: T): T =>
    ops.mul(h, p.at(name).param("lambda1", [features], { kind: "constant", value: config.layerscale_value }));
  const attended = selfAttention(ops, p.at("attention"), normalized("norm1", x), config.num_attention_heads);
  const h = ops.add(x, scaled("layer_scale1", attended));
  const inner = gelu(ops, linearLayer(ops, p.at("mlp.fc1"), normalized("norm2", h), config.mlp_ratio * features));
  return ops.add(h, scaled("layer_scale2", linearLayer(ops, p.at("mlp.fc2"), inner, features)));
}

/**
 * Features of DINOv2 (arXiv:2304.07193) under the parameter names of transformers' `Dinov2Model`. Its mask token, its final
 * norm and blocks after the last wanted one are not needed.
 *
 * @param images [batch, 3, height, width] in [-1, 1], red first; brought to ImageNet's mean and deviation here.
 *   Sizes divisible by patch_size; position embeddings are interpolated for others than image_size
 * @param blocks whose outputs are wanted, from 0. [2, 5, 8, 11] of 12 are those that StyleGAN-T and ADD discriminate by
 * @returns for each of `blocks` the patches' features as a map [batch, hidden_size, height / patch_size, width / patch_size]
 *
 * Throws `ShapeError` for images of other sizes or channels, `InvalidArgumentError` where there is no such block.
 *
 * @example
 * const maps = dinoV2Features(ops, scope(ops, params), dinoV2Presets.small, images, [2, 5, 8, 11]);
 */
export function dinoV2Features<T>(
  ops: Ops<T>,
  p: Scope<T>,
  config: DinoV2Config,
  images: T,
  blocks: readonly number[],
): T[] {
  const count = config.num_hidden_layers;
  const unknown = blocks.find((index) => !Number.isInteger(index) || index < 0 || index >= count);
  if (blocks.length === 0 || unknown !== undefined) {
    throw new InvalidArgumentError(
      `dinoV2Features: blocks must be whole numbers from 0 to ${count - 1}, at least one; got ${unknown ?? "none"}.`,
    );
  }
  const [batch = 1, , height = 0, width = 0] = ops.shape(images);
  const [rows, columns] = [height / config.patch_size, width / config.patch_size];
  if (!Number.isInteger(rows) || !Number.isInteger(columns)) {
    throw new ShapeError(
      `dinoV2Features: height and width must be divisible by ${config.patch_size}, got ${height} x ${width}. ` +
        `Resize or crop the images.`,
    );
  }
  let h = embeddings(ops, p.at("embeddings"), config, normalizedImages(ops, images));
  const results: T[] = [];
  for (let index = 0; index <= Math.max(...blocks); index++) {
    h = block(ops, p.at(`encoder.layer.${index}`), h, config);
    results.push(h);
  }
  return blocks.map((index) => {
    const patches = ops.slice(results[index]!, 1, 1, rows * columns); // without the class token
    return ops.reshape(ops.transpose(patches, [0, 2, 1]), [batch, config.hidden_size, rows, columns]);
  });
}

/** Names, shapes and initialisations of the parameters of `dinoV2Features`; nothing is computed. */
export function dinoV2Parameters(config: DinoV2Config, blocks: readonly number[]): Record<string, ParameterSpec> {
  const side = config.patch_size;
  return declareParameters((ops, p, { images }) => dinoV2Features(ops, p, config, images, blocks), {
    images: { shape: [1, 3, side, side] },
  });
}
