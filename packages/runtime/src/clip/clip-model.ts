import {
  ShapeError,
  UnsupportedConfigError,
  configReader,
  convLayer,
  declareParameters,
  finiteNumber,
  layerNormLayer,
  linearLayer,
  normal,
  oneOf,
  positiveInteger,
  type FieldType,
  type Initializer,
  type Ops,
  type ParameterSpec,
  type Scope,
} from "@sdxs/tensor";
import { checkHeads, clipLayers, type ClipLayersConfig } from "./clip-layers.js";
import { parseTextEncoderConfig, textEncoder, type TextEncoderConfig } from "./text-encoder.js";

/** The configuration of CLIP's image encoder, in the fields of transformers' `CLIPVisionConfig`. */
export interface VisionEncoderConfig extends ClipLayersConfig {
  /** Features of the projected embedding, see `VisionEncoderOptions.projection`. */
  readonly projection_dim: number;
  /** Of the pictures: 3 for RGB. */
  readonly num_channels: number;
  /** Side of the square pictures, in pixels. */
  readonly image_size: number;
  /** Side of the squares that become tokens, in pixels. */
  readonly patch_size: number;
}

/** The configuration of a whole CLIP, in the fields of transformers' `CLIPConfig`. */
export interface ClipConfig {
  /** Of both embeddings: it goes before the towers' own. */
  readonly projection_dim: number;
  readonly text_config: TextEncoderConfig;
  readonly vision_config: VisionEncoderConfig;
}

/**
 * Reads transformers' config.json of a `CLIPVisionModel` or `CLIPVisionModelWithProjection`. Absent fields take its defaults.
 * Throws `UnsupportedConfigError`, naming the field, its value and what is supported.
 */
export function parseVisionEncoderConfig(json: unknown): VisionEncoderConfig {
  const name = "CLIPVisionModel";
  const read = configReader(name, json);
  read("model_type", oneOf(["clip_vision_model"]), "clip_vision_model");
  const config: VisionEncoderConfig = {
    hidden_size: read("hidden_size", positiveInteger, 768),
    intermediate_size: read("intermediate_size", positiveInteger, 3072),
    projection_dim: read("projection_dim", positiveInteger, 512),
    num_hidden_layers: read("num_hidden_layers", positiveInteger, 12),
    num_attention_heads: read("num_attention_heads", positiveInteger, 12),
    num_channels: read("num_channels", positiveInteger, 3),
    image_size: read("image_size", positiveInteger, 224),
    patch_size: read("patch_size", positiveInteger, 32),
    hidden_act: read("hidden_act", oneOf(["quick_gelu", "gelu"]), "quick_gelu"),
    layer_norm_eps: read("layer_norm_eps", finiteNumber, 1e-5),
  };
  checkHeads(name, config);
  if (config.patch_size > config.image_size) {
    throw new UnsupportedConfigError(
      `${name}: "patch_size" is ${config.patch_size}; supported: at most "image_size" ${config.image_size}.`,
    );
  }
  return config;
}

/**
 * Reads transformers' config.json of a `CLIPModel`.
 * Throws `UnsupportedConfigError`, naming the field, its value and what is supported.
 */
export function parseClipConfig(json: unknown): ClipConfig {
  const read = configReader("CLIPModel", json);
  read("model_type", oneOf(["clip"]), "clip");
  const projection = read("projection_dim", positiveInteger, 512);
  // Where the former fields "text_config_dict" and "vision_config_dict" are there, they count.
  const tower = (name: string): object =>
    read(`${name}_dict`, objectOrNull, null) ?? read(name, objectOrNull, null) ?? {};
  return {
    projection_dim: projection,
    text_config: { ...parseTextEncoderConfig(tower("text_config")), projection_dim: projection },
    vision_config: { ...parseVisionEncoderConfig(tower("vision_config")), projection_dim: projection },
  };
}

const objectOrNull: FieldType<object | null> = {
  expected: "an object",
  accepts: (value): value is object | null => typeof value === "object" && !Array.isArray(value),
};

export interface VisionEncoderOptions {
  /** `CLIPVisionModelWithProjection`: give `imageEmbeds`, which needs the parameter visual_projection.weight. Default false. */
  readonly projection?: boolean;
}

export interface VisionEncoding<T> {
  /** The last layer's output, not normalised [batch, 1 + patches, hidden_size]: the class token, then the picture's rows. */
  readonly lastHiddenState: T;
  /** The embeddings, normalised, and each layer's output. */
  readonly hiddenStates: readonly T[];
  /** The class token of `lastHiddenState`, normalised [batch, hidden_size]. */
  readonly pooled: T;
  /** `pooled`, projected [batch, projection_dim]; undefined without `projection`. */
  readonly imageEmbeds: T | undefined;
}

/**
 * CLIP's image encoder, a vision transformer (Radford et al. 2021, https://arxiv.org/abs/2103.00020, section 2.4), under
 * transformers' parameter names ("vision_model.embeddings.class_embedding", ...).
 *
 * @param pixels [batch, num_channels, image_size, image_size], red first, normalised: see `clipPixels`.
 * @throws ShapeError
 *
 * @example
 * const { imageEmbeds } = visionEncoder(ops, scope(ops, params), config, clipPixels(ops, images), { projection: true });
 */
export function visionEncoder<T>(
  ops: Ops<T>,
  p: Scope<T>,
  config: VisionEncoderConfig,
  pixels: T,
  options: VisionEncoderOptions = {},
): VisionEncoding<T> {
  const { num_channels: channels, image_size: side, patch_size: patch, hidden_size: features } = config;
  const shape = ops.shape(pixels);
  const [batch = 0] = shape;
  if (shape.length !== 4 || batch < 1 || shape.slice(1).join() !== [channels, side, side].join()) {
    throw new ShapeError(
      `visionEncoder: pixels must be [batch, ${channels}, ${side}, ${side}], got [${shape.join(", ")}]. ` +
        `Scale the pictures' shorter side to ${side} pixels and cut out the middle.`,
    );
  }
  const model = p.at("vision_model");
  const embeddings = model.at("embeddings");
  const squares = convLayer(ops, embeddings.at("patch_embedding"), pixels, features, {
    kernel: patch,
    stride: patch,
    padding: 0,
    bias: false,
    init: small,
  });
  const patches = Math.floor(side / patch) ** 2;
  const tokens = ops.transpose(ops.reshape(squares, [batch, features, patches]), [0, 2, 1]); // [batch, patches, features]
  const classToken = ops.reshape(embeddings.param("class_embedding", [features], small), [1, 1, features]);
  const repeated = ops.mul(classToken, ops.constant(new Float32Array(batch).fill(1), [batch, 1, 1]));
  const positions = embeddings.at("position_embedding").param("weight", [patches + 1, features], small);
  const embedded = ops.add(ops.concat([repeated, tokens], 1), positions);

  const normalize = (name: string, x: T): T => layerNormLayer(ops, model.at(name), x, config.layer_norm_eps);
  // transformers' name has this spelling.
  const hiddenStates = clipLayers(ops, model, normalize("pre_layrnorm", embedded), config);
  const lastHiddenState = hiddenStates.at(-1) as T;
  const pooled = normalize("post_layernorm", ops.reshape(ops.slice(lastHiddenState, 1, 0, 1), [batch, features]));
  const imageEmbeds = options.projection
    ? linearLayer(ops, p.at("visual_projection"), pooled, config.projection_dim, { bias: false })
    : undefined;
  return { lastHiddenState, hiddenStates, pooled, imageEmbeds };
}

/** transformers' initializer_range. */
const small: Initializer = normal(0.02);

/** Names, shapes and initialisations of the parameters of `visionEncoder`; nothing is computed. */
export function visionEncoderParameters(
  config: VisionEncoderConfig,
  options: VisionEncoderOptions = {},
): Record<string, ParameterSpec> {
  return declareParameters((ops, p, { pixels }) => visionEncoder(ops, p, config, pixels, options), {
    pixels: { shape: [1, config.num_channels, config.image_size, config.image_size] },
  });
}

/** Mean and standard deviation of red, green and blue from 0 to 1, as preprocessor_config.json has them. */
export interface ClipPixelStatistics {
  readonly image_mean: readonly number[];
  readonly image_std: readonly number[];
}

/** Those of CLIP by OpenAI, and of OpenCLIP. */
export const clipPixelStatistics: ClipPixelStatistics = {
  image_mean: [0.48145466, 0.4578275, 0.40821073],
  image_std: [0.26862954, 0.26130258, 0.27577711],
};

/**
 * Pictures of a pipeline as `visionEncoder` takes them. They must have its size already.
 *
 * @param images [batch, 3, height, width], red first, in [-1, 1]
 * @returns the same shape: (value from 0 to 1 - mean) / standard deviation
 */
export function clipPixels<T>(ops: Ops<T>, images: T, statistics: ClipPixelStatistics = clipPixelStatistics): T {
  const { image_mean: mean, image_std: deviation } = statistics;
  const channels = ops.shape(images)[1] ?? 0;
  if (mean.length !== channels || deviation.length !== channels) {
    throw new ShapeError(
      `clipPixels: images must be [batch, ${mean.length}, height, width], got [${ops.shape(images).join(", ")}].`,
    );
  }
  const perChannel = (value: (channel: number) => number): T =>
    ops.constant(
      Float32Array.from(mean, (_, channel) => value(channel)),
      [1, channels, 1, 1],
    );
  const scale = perChannel((channel) => 0.5 / deviation[channel]!);
  const shift = perChannel((channel) => (0.5 - mean[channel]!) / deviation[channel]!);
  return ops.add(ops.mul(images, scale), shift);
}

export interface ClipInputs<T> {
  /** Token ids [texts, tokens], int32. */
  readonly ids: T;
  /** [images, channels, height, width], see `visionEncoder`. */
  readonly pixels: T;
}

export interface ClipOutputs<T> {
  /** Of length 1 [texts, projection_dim]. */
  readonly textEmbeds: T;
  /** Of length 1 [images, projection_dim]. */
  readonly imageEmbeds: T;
  /** exp(logit_scale) times their cosines [images, texts]. */
  readonly logitsPerImage: T;
}

/**
 * A whole CLIP (transformers' `CLIPModel`): how well texts and pictures agree, under its parameter names.
 *
 * @throws ShapeError
 *
 * @example
 * const { textEmbeds, imageEmbeds } = clipModel(ops, scope(ops, params), config, { ids, pixels: clipPixels(ops, images) });
 * const scores = clipScore(ops, textEmbeds, imageEmbeds); // one per prompt and its picture
 */
export function clipModel<T>(
  ops: Ops<T>,
  p: Scope<T>,
  config: ClipConfig,
  { ids, pixels }: ClipInputs<T>,
): ClipOutputs<T> {
  const text = textEncoder(ops, p, config.text_config, ids, { projection: true });
  const image = visionEncoder(ops, p, config.vision_config, pixels, { projection: true });
  const textEmbeds = toLengthOne(ops, text.textEmbeds!);
  const imageEmbeds = toLengthOne(ops, image.imageEmbeds!);
  // Beginning at 1 / 0.07 (CLIP, section 2.5). Checkpoints have it as a scalar.
  const scale = ops.exp(p.param("logit_scale", [], { kind: "constant", value: 2.6592 }));
  const cosines = ops.matmul(imageEmbeds, ops.transpose(textEmbeds, [1, 0]));
  return { textEmbeds, imageEmbeds, logitsPerImage: ops.mul(cosines, scale) };
}

/** Names, shapes and initialisations of the parameters of `clipModel`; nothing is computed. */
export function clipModelParameters(config: ClipConfig): Record<string, ParameterSpec> {
  const { num_channels: channels, image_size: side } = config.vision_config;
  return declareParameters((ops, p, inputs) => clipModel(ops, p, config, inputs), {
    ids: { shape: [1, 1], dtype: "int32" },
    pixels: { shape: [1, channels, side, side] },
  });
}

/**
 * How well each picture agrees with its prompt: 100 max(cos, 0), 0 to 100, as torchmetrics' `CLIPScore` gives it (Hessel et
 * al. 2021, https://arxiv.org/abs/2104.08718, weigh by 2.5 in place of 100).
 *
 * @param textEmbeds @param imageEmbeds of length 1 [pairs, features]
 * @returns [pairs]
 */
export function clipScore<T>(ops: Ops<T>, textEmbeds: T, imageEmbeds: T): T {
  const [texts, images] = [ops.shape(textEmbeds), ops.shape(imageEmbeds)];
  if (texts.length !== 2 || texts.join() !== images.join()) {
    throw new ShapeError(
      `clipScore: both must be [pairs, features], got [${texts.join(", ")}] and [${images.join(", ")}]. Give a text for each picture.`,
    );
  }
  return ops.mul(ops.maximum(ops.sum(ops.mul(textEmbeds, imageEmbeds), { axes: [1] }), 0), 100);
}

/** Rows of length 1. */
function toLengthOne<T>(ops: Ops<T>, x: T): T {
  const length = ops.sqrt(ops.sum(ops.mul(x, x), { axes: [1], keepDims: true })); // [rows, 1]
  return ops.div(x, length);
}
