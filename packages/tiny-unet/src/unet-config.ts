import {
  UnsupportedConfigError,
  configReader,
  either,
  finiteNumber,
  flag,
  listOf,
  nullable,
  oneOf,
  positiveInteger,
  type FieldType,
  type OnUnknownFields,
} from "@sdxs/tensor";

const MODEL = "UNet2DConditionModel";
const DOWN_BLOCK_TYPES = ["CrossAttnDownBlock2D", "DownBlock2D"] as const;
const UP_BLOCK_TYPES = ["CrossAttnUpBlock2D", "UpBlock2D"] as const;
const MID_BLOCK_TYPES = ["UNetMidBlock2DCrossAttn", "UNetMidBlock2D", null] as const;

/** One value for all levels, or one per level from the highest resolution to the lowest. */
export type PerLevel<V> = V | readonly V[];

/**
 * The configuration of a U-Net, in the fields and with the meanings of diffusers' `UNet2DConditionModel` config.json.
 * Fields of diffusers that are not here are supported at diffusers' default alone.
 */
export interface UNetConfig {
  /** Height and width of the latents that the model was trained for. Informative: any size runs. */
  readonly sample_size: number | readonly number[] | null;
  readonly in_channels: number;
  readonly out_channels: number;
  /** Map the input x to 2x - 1 first. */
  readonly center_input_sample: boolean;
  /** The timestep's embedding is [cos, sin] instead of [sin, cos]. */
  readonly flip_sin_to_cos: boolean;
  /** Subtracted from the number of frequencies in the exponent's denominator. */
  readonly freq_shift: number;
  /** From the highest resolution to the lowest. */
  readonly down_block_types: readonly (typeof DOWN_BLOCK_TYPES)[number][];
  /** null: no mid stage, as in SDXS. UNetMidBlock2D: one residual block. */
  readonly mid_block_type: (typeof MID_BLOCK_TYPES)[number];
  /** From the lowest resolution to the highest. */
  readonly up_block_types: readonly (typeof UP_BLOCK_TYPES)[number][];
  /** The first attention of each transformer block looks at the text too, instead of at the image. */
  readonly only_cross_attention: PerLevel<boolean>;
  readonly block_out_channels: readonly number[];
  /** Residual blocks per down stage; up stages have one more. */
  readonly layers_per_block: PerLevel<number>;
  readonly norm_num_groups: number;
  readonly norm_eps: number;
  /** Features of the text embeddings. */
  readonly cross_attention_dim: number;
  /** Transformer blocks after each residual block; a nested list gives each residual block of a level its own. */
  readonly transformer_layers_per_block: PerLevel<number | readonly number[]>;
  /** The same for the up stages, lowest resolution first. null: the down stages' in reverse. */
  readonly reverse_transformer_layers_per_block: readonly (number | readonly number[])[] | null;
  /** Despite its name, the number of attention heads: diffusers keeps the early checkpoints' misnomer. */
  readonly attention_head_dim: PerLevel<number>;
  /** The transformers' outer projections are linear layers on tokens, instead of 1x1 convolutions. */
  readonly use_linear_projection: boolean;
  /** text_time: SDXL's pooled text embedding and its six sizes join the timestep's embedding. */
  readonly addition_embed_type: "text_time" | null;
  /** text_time: sinusoidal features of each size. */
  readonly addition_time_embed_dim: number | null;
  /** text_time: pooled text features plus all sinusoidal features. */
  readonly projection_class_embeddings_input_dim: number | null;
  /** Features of the timestep's embedding. null: four times the first level's channels. */
  readonly time_embedding_dim: number | null;
  /**
   * Features of the guidance scale's embedding, which joins the timestep's in latent consistency models: they were distilled
   * with guidance. null: there is none. See `guidanceScaleEmbedding`.
   */
  readonly time_cond_proj_dim: number | null;
  readonly conv_in_kernel: number;
  readonly conv_out_kernel: number;
  /** Softmax in float32, which this implementation always does. */
  readonly upcast_attention: boolean;
}

/** The fields of the encoder half, which a ControlNet shares. */
export type UNetEncoderConfig = Omit<
  UNetConfig,
  | "sample_size"
  | "out_channels"
  | "center_input_sample"
  | "up_block_types"
  | "reverse_transformer_layers_per_block"
  | "time_embedding_dim"
  | "time_cond_proj_dim"
  | "conv_in_kernel"
  | "conv_out_kernel"
>;

/**
 * Reads diffusers' config.json of a `UNet2DConditionModel`. Absent fields take diffusers' defaults; fields that are not
 * the model's are ignored, as diffusers ignores them, and `onUnknown` is called with them.
 * Throws `UnsupportedConfigError`, naming the field, its value and what is supported.
 *
 * @example
 * const config = parseUNetConfig(JSON.parse(await readFile("unet/config.json", "utf8")));
 */
export function parseUNetConfig(json: unknown, onUnknown?: OnUnknownFields): UNetConfig {
  const read = configReader(MODEL, json);
  read("_class_name", oneOf([MODEL]), MODEL);
  read("act_fn", oneOf(["silu", "swish"]), "silu");
  read("attention_type", oneOf(["default"]), "default");
  read("class_embed_type", oneOf([null]), null);
  read("class_embeddings_concat", oneOf([false]), false);
  read("cross_attention_norm", oneOf([null]), null);
  read("downsample_padding", oneOf([1]), 1);
  read("dropout", oneOf([0]), 0);
  read("dual_cross_attention", oneOf([false]), false);
  read("encoder_hid_dim", oneOf([null]), null);
  read("encoder_hid_dim_type", oneOf([null]), null);
  read("mid_block_scale_factor", oneOf([1]), 1);
  read("num_attention_heads", oneOf([null]), null);
  read("num_class_embeds", oneOf([null]), null);
  read("resnet_out_scale_factor", oneOf([1]), 1);
  read("resnet_skip_time_act", oneOf([false]), false);
  read("resnet_time_scale_shift", oneOf(["default"]), "default");
  read("time_embedding_act_fn", oneOf([null]), null);
  read("time_embedding_type", oneOf(["positional"]), "positional");
  read("timestep_post_act", oneOf([null]), null);
  // Of addition_embed_type "text" and of UNetMidBlock2DSimpleCrossAttn, which are refused.
  read.skip("addition_embed_type_num_heads", "mid_block_only_cross_attention");

  const contextFeatures = read("cross_attention_dim", either(positiveInteger, listOf(positiveInteger)), 1280);
  const depth = either(positiveInteger, listOf(positiveInteger));
  const addedEmbedding = read("addition_embed_type", oneOf(["text_time", null]), null);
  const addedFeatures: FieldType<number | null> =
    addedEmbedding === "text_time" ? positiveInteger : nullable(positiveInteger);
  const config: UNetConfig = {
    sample_size: read("sample_size", nullable(either(positiveInteger, listOf(positiveInteger))), null),
    in_channels: read("in_channels", positiveInteger, 4),
    out_channels: read("out_channels", positiveInteger, 4),
    center_input_sample: read("center_input_sample", flag, false),
    flip_sin_to_cos: read("flip_sin_to_cos", flag, true),
    freq_shift: read("freq_shift", finiteNumber, 0),
    down_block_types: read("down_block_types", listOf(oneOf(DOWN_BLOCK_TYPES)), [
      "CrossAttnDownBlock2D",
      "CrossAttnDownBlock2D",
      "CrossAttnDownBlock2D",
      "DownBlock2D",
    ]),
    mid_block_type: read("mid_block_type", oneOf(MID_BLOCK_TYPES), "UNetMidBlock2DCrossAttn"),
    up_block_types: read("up_block_types", listOf(oneOf(UP_BLOCK_TYPES)), [
      "UpBlock2D",
      "CrossAttnUpBlock2D",
      "CrossAttnUpBlock2D",
      "CrossAttnUpBlock2D",
    ]),
    only_cross_attention: read("only_cross_attention", either(flag, listOf(flag)), false),
    block_out_channels: read("block_out_channels", listOf(positiveInteger), [320, 640, 1280, 1280]),
    layers_per_block: read("layers_per_block", either(positiveInteger, listOf(positiveInteger)), 2),
    norm_num_groups: read("norm_num_groups", positiveInteger, 32),
    norm_eps: read("norm_eps", finiteNumber, 1e-5),
    cross_attention_dim: typeof contextFeatures === "number" ? contextFeatures : (contextFeatures[0] ?? 1280),
    transformer_layers_per_block: read("transformer_layers_per_block", either(positiveInteger, listOf(depth)), 1),
    reverse_transformer_layers_per_block: read("reverse_transformer_layers_per_block", nullable(listOf(depth)), null),
    attention_head_dim: read("attention_head_dim", either(positiveInteger, listOf(positiveInteger)), 8),
    use_linear_projection: read("use_linear_projection", flag, false),
    addition_embed_type: addedEmbedding,
    addition_time_embed_dim: read("addition_time_embed_dim", addedFeatures, null),
    projection_class_embeddings_input_dim: read("projection_class_embeddings_input_dim", addedFeatures, null),
    time_embedding_dim: read("time_embedding_dim", nullable(positiveInteger), null),
    time_cond_proj_dim: read("time_cond_proj_dim", nullable(positiveInteger), null),
    conv_in_kernel: read("conv_in_kernel", oneOf([1, 3, 5, 7]), 3),
    conv_out_kernel: read("conv_out_kernel", oneOf([1, 3, 5, 7]), 3),
    upcast_attention: read("upcast_attention", flag, false),
  };
  if (
    typeof contextFeatures !== "number" &&
    contextFeatures.some((features) => features !== config.cross_attention_dim)
  ) {
    unsupported(MODEL, "cross_attention_dim", contextFeatures, "the same number on all levels");
  }
  unetStages(config);
  read.reportUnknown(onUnknown);
  return config;
}

/** One down or up stage, with every per-level field resolved. */
export interface UNetStage {
  readonly channels: number;
  readonly heads: number;
  readonly onlyCrossAttention: boolean;
  /** For each residual block the number of transformer blocks after it; 0: no transformer. */
  readonly transformerLayers: readonly number[];
  /** Whether the stage ends by halving (down) or doubling (up) the resolution: all but the last of its direction. */
  readonly resamples: boolean;
}

export interface UNetEncoderStages {
  /** Highest resolution first. */
  readonly down: readonly UNetStage[];
  /** The lowest resolution's; its transformer blocks, 0 without attention. undefined: no mid stage. */
  readonly mid: { readonly channels: number; readonly heads: number; readonly transformerLayers: number } | undefined;
}

export interface UNetStages extends UNetEncoderStages {
  /** Lowest resolution first. */
  readonly up: readonly UNetStage[];
}

/** Resolves a configuration's per-level fields. Throws `UnsupportedConfigError` where their lengths do not agree. */
export function unetStages(config: UNetConfig): UNetStages {
  const levels = resolveLevels(config, MODEL);
  const { up_block_types: types, reverse_transformer_layers_per_block: reversed } = config;
  if (types.length !== levels.length) unsupported(MODEL, "up_block_types", types, onePerLevel("stages", levels.length));
  if (reversed === null && levels.some(({ depth }) => typeof depth !== "number")) {
    const supported = "a list, where transformer_layers_per_block is nested";
    unsupported(MODEL, "reverse_transformer_layers_per_block", null, supported);
  }
  if (reversed !== null && reversed.length !== levels.length) {
    unsupported(MODEL, "reverse_transformer_layers_per_block", reversed, onePerLevel("values", levels.length));
  }
  const up = [...levels].reverse().map((level, index) => {
    const attends = types[index] === "CrossAttnUpBlock2D";
    const [field, depth] =
      reversed === null
        ? (["transformer_layers_per_block", level.depth] as const)
        : (["reverse_transformer_layers_per_block", at(reversed, index)] as const);
    const transformerLayers = layerDepths(MODEL, field, attends ? depth : 0, level.layers + 1);
    return stage(level, transformerLayers, index < levels.length - 1);
  });
  return { ...unetEncoderStages(config), up };
}

/** The stages of an encoder alone. Errors begin with `model`, the class that the configuration is of. */
export function unetEncoderStages(config: UNetEncoderConfig, model: string = MODEL): UNetEncoderStages {
  const levels = resolveLevels(config, model);
  const field = "transformer_layers_per_block";
  const down = levels.map((level, index) => {
    const attends = config.down_block_types[index] === "CrossAttnDownBlock2D";
    const transformerLayers = layerDepths(model, field, attends ? level.depth : 0, level.layers);
    return stage(level, transformerLayers, index < levels.length - 1);
  });
  if (config.mid_block_type === null) return { down, mid: undefined };
  const { channels, heads, depth } = at(levels, levels.length - 1);
  const attends = config.mid_block_type === "UNetMidBlock2DCrossAttn";
  const [transformerLayers = 0] = layerDepths(model, field, attends ? depth : 0, 1);
  return { down, mid: { channels, heads, transformerLayers } };
}

/** The fields of one level, highest resolution first. */
interface Level {
  readonly channels: number;
  readonly heads: number;
  readonly onlyCrossAttention: boolean;
  /** Residual blocks of the down stage. */
  readonly layers: number;
  /** Transformer blocks after each residual block: one number for all, or a list. */
  readonly depth: number | readonly number[];
}

function resolveLevels(config: UNetEncoderConfig, model: string): Level[] {
  const channels = config.block_out_channels;
  const perLevel = <V>(field: keyof UNetConfig, value: PerLevel<V>): readonly V[] => {
    if (!isList(value)) return channels.map(() => value);
    if (value.length === channels.length) return value;
    return unsupported(model, field, value, `one value, or ${onePerLevel("values", channels.length)}`);
  };
  const { down_block_types: types } = config;
  if (types.length !== channels.length) {
    unsupported(model, "down_block_types", types, onePerLevel("stages", channels.length));
  }
  const heads = perLevel("attention_head_dim", config.attention_head_dim);
  const layers = perLevel("layers_per_block", config.layers_per_block);
  const onlyCross = perLevel("only_cross_attention", config.only_cross_attention);
  const depths = perLevel("transformer_layers_per_block", config.transformer_layers_per_block);
  if (at(channels, 0) % 2 !== 0) {
    unsupported(model, "block_out_channels", channels, "an even number of channels on the first level");
  }
  return channels.map((count, level) => {
    if (count % at(heads, level) !== 0) {
      const supported = `numbers of heads that divide the channels ${count}`;
      unsupported(model, "attention_head_dim", config.attention_head_dim, supported);
    }
    if (count % config.norm_num_groups !== 0) {
      unsupported(model, "norm_num_groups", config.norm_num_groups, `a number that divides the channels ${count}`);
    }
    return {
      channels: count,
      heads: at(heads, level),
      onlyCrossAttention: at(onlyCross, level),
      layers: at(layers, level),
      depth: at(depths, level),
    };
  });
}

function stage(level: Level, transformerLayers: readonly number[], resamples: boolean): UNetStage {
  const { channels, heads, onlyCrossAttention } = level;
  return { channels, heads, onlyCrossAttention, transformerLayers, resamples };
}

/** The number of transformer blocks after each of a level's residual blocks. */
function layerDepths(
  model: string,
  field: keyof UNetConfig,
  depth: number | readonly number[],
  layers: number,
): number[] {
  return Array.from({ length: layers }, (_, index) => {
    const count = typeof depth === "number" ? depth : depth[index];
    return count ?? unsupported(model, field, depth, `a number for each of a level's ${layers} residual blocks`);
  });
}

const onePerLevel = (what: string, levels: number): string => `${levels} ${what}, one per level of block_out_channels`;

/** Array.isArray does not narrow read-only arrays. */
export function isList<V>(value: PerLevel<V>): value is readonly V[] {
  return Array.isArray(value);
}

/** An element whose index is known to be in range. */
function at<V>(values: readonly V[], index: number): V {
  return values[index] as V;
}

function unsupported(model: string, field: keyof UNetConfig, value: unknown, supported: string): never {
  throw new UnsupportedConfigError(
    `${model}: "${field}" is ${JSON.stringify(value)}; supported: ${supported}. ` +
      `Use a model of a supported configuration.`,
  );
}
