import {
  ShapeError,
  UnsupportedConfigError,
  attention,
  configReader,
  convLayer,
  declareParameters,
  finiteNumber,
  flag,
  groupNormLayer,
  linearLayer,
  listOf,
  nullable,
  oneOf,
  positiveInteger,
  silu,
  type OnUnknownFields,
  type Ops,
  type ParameterSpec,
  type Scope,
} from "@sdxs/tensor";

/** The configuration of a variational autoencoder, in the fields of diffusers' `AutoencoderKL` config.json. */
export interface AutoencoderKlConfig {
  /** Image channels. */
  readonly in_channels: number;
  readonly out_channels: number;
  readonly latent_channels: number;
  /** Channels of each level, highest resolution first. Each level but the last halves the resolution. */
  readonly block_out_channels: readonly number[];
  /** Residual blocks of each encoder level; decoder levels have one more. */
  readonly layers_per_block: number;
  readonly norm_num_groups: number;
  /** Self-attention over the lowest resolution's pixels in the mid stages. */
  readonly mid_block_add_attention: boolean;
  /** A 1x1 convolution after the encoder. */
  readonly use_quant_conv: boolean;
  /** A 1x1 convolution before the decoder. */
  readonly use_post_quant_conv: boolean;
  /** Latents of the diffusion model are (the encoder's - shift_factor) times this. */
  readonly scaling_factor: number;
  /** null: 0. */
  readonly shift_factor: number | null;
  /** Overflows in float16: diffusers' pipelines of Stable Diffusion XL then compute it in float32. */
  readonly force_upcast: boolean;
}

const stableDiffusion: AutoencoderKlConfig = {
  in_channels: 3,
  out_channels: 3,
  latent_channels: 4,
  block_out_channels: [128, 256, 512, 512],
  layers_per_block: 2,
  norm_num_groups: 32,
  mid_block_add_attention: true,
  use_quant_conv: true,
  use_post_quant_conv: true,
  scaling_factor: 0.18215,
  shift_factor: null,
  force_upcast: true,
};

/** Published large autoencoders. */
export const autoencoderKlPresets = {
  /** Of SD 1 and SD 2: https://huggingface.co/stabilityai/sd-vae-ft-mse, config.json; the scaling factor is diffusers' default. */
  sd: stableDiffusion,
  /** Of SDXL: https://huggingface.co/stabilityai/sdxl-vae, config.json. */
  sdxl: { ...stableDiffusion, scaling_factor: 0.13025 },
} as const satisfies Record<string, AutoencoderKlConfig>;

/**
 * Reads diffusers' config.json of an `AutoencoderKL`. Absent fields take diffusers' defaults;
 * `onUnknown` is called with fields that the model does not have, which are ignored.
 * Throws `UnsupportedConfigError`, naming the field, its value and what is supported.
 */
export function parseAutoencoderKlConfig(json: unknown, onUnknown?: OnUnknownFields): AutoencoderKlConfig {
  const read = configReader("AutoencoderKL", json);
  read("_class_name", oneOf(["AutoencoderKL"]), "AutoencoderKL");
  read("act_fn", oneOf(["silu", "swish"]), "silu");
  read("latents_mean", oneOf([null]), null);
  read("latents_std", oneOf([null]), null);
  read.skip("sample_size"); // of training
  const config: AutoencoderKlConfig = {
    in_channels: read("in_channels", positiveInteger, 3),
    out_channels: read("out_channels", positiveInteger, 3),
    latent_channels: read("latent_channels", positiveInteger, 4),
    block_out_channels: read("block_out_channels", listOf(positiveInteger), [64]),
    layers_per_block: read("layers_per_block", positiveInteger, 1),
    norm_num_groups: read("norm_num_groups", positiveInteger, 32),
    mid_block_add_attention: read("mid_block_add_attention", flag, true),
    use_quant_conv: read("use_quant_conv", flag, true),
    use_post_quant_conv: read("use_post_quant_conv", flag, true),
    scaling_factor: read("scaling_factor", finiteNumber, 0.18215),
    shift_factor: read("shift_factor", nullable(finiteNumber), null),
    force_upcast: read("force_upcast", flag, true),
  };
  const levels = config.block_out_channels.length;
  for (const [field, type] of [
    ["down_block_types", "DownEncoderBlock2D"],
    ["up_block_types", "UpDecoderBlock2D"],
  ] as const) {
    const types = read(field, listOf(oneOf([type])), [type]);
    if (types.length !== levels) {
      throw new UnsupportedConfigError(
        `AutoencoderKL: "${field}" is ${JSON.stringify(types)}; supported: ${levels} times "${type}", ` +
          `one per level of "block_out_channels".`,
      );
    }
  }
  for (const channels of config.block_out_channels) {
    if (channels % config.norm_num_groups !== 0) {
      throw new UnsupportedConfigError(
        `AutoencoderKL: "norm_num_groups" is ${config.norm_num_groups}; supported: a number that divides the channels ${channels}.`,
      );
    }
  }
  read.reportUnknown(onUnknown);
  return config;
}

// ---------------------------------------------------------------------------------------------------------------------
// Blocks

/** Fixed in diffusers' Encoder and Decoder. */
const NORM_EPSILON = 1e-6;

/** ResnetBlock2D without a timestep. x [batch, in, height, width] gives [batch, channels, height, width]. */
function residualBlock<T>(ops: Ops<T>, p: Scope<T>, x: T, channels: number, groups: number): T {
  const normalized = (name: string, h: T): T => silu(ops, groupNormLayer(ops, p.at(name), h, groups, NORM_EPSILON));
  const first = convLayer(ops, p.at("conv1"), normalized("norm1", x), channels);
  const second = convLayer(ops, p.at("conv2"), normalized("norm2", first), channels);
  const [, inChannels] = ops.shape(x);
  const shortcut = inChannels === channels ? x : convLayer(ops, p.at("conv_shortcut"), x, channels, { kernel: 1 });
  return ops.add(shortcut, second);
}

/** Single-head self-attention over the pixels of x [batch, channels, height, width], around a residual. */
function pixelAttention<T>(ops: Ops<T>, p: Scope<T>, x: T, groups: number): T {
  const [batch = 1, channels = 1, height = 1, width = 1] = ops.shape(x);
  const normalized = groupNormLayer(ops, p.at("group_norm"), x, groups, NORM_EPSILON);
  const pixels = ops.reshape(normalized, [batch, channels, height * width]);
  const tokens = ops.transpose(pixels, [0, 2, 1]); // [batch, pixels, channels]
  const project = (name: string): T =>
    ops.reshape(linearLayer(ops, p.at(name), tokens, channels), [batch, 1, height * width, channels]); // one head
  const attended = attention(ops, project("to_q"), project("to_k"), project("to_v"), channels ** -0.5);
  const merged = ops.reshape(attended, [batch, height * width, channels]);
  const out = linearLayer(ops, p.at("to_out.0"), merged, channels);
  return ops.add(x, ops.reshape(ops.transpose(out, [0, 2, 1]), [batch, channels, height, width]));
}

/** UNetMidBlock2D: residual block, attention, residual block. */
function midStage<T>(ops: Ops<T>, p: Scope<T>, x: T, config: AutoencoderKlConfig): T {
  const [, channels = 1] = ops.shape(x);
  const groups = config.norm_num_groups;
  let h = residualBlock(ops, p.at("resnets.0"), x, channels, groups);
  if (config.mid_block_add_attention) h = pixelAttention(ops, p.at("attentions.0"), h, groups);
  return residualBlock(ops, p.at("resnets.1"), h, channels, groups);
}

function outputLayers<T>(ops: Ops<T>, p: Scope<T>, x: T, channels: number, config: AutoencoderKlConfig): T {
  const normalized = groupNormLayer(ops, p.at("conv_norm_out"), x, config.norm_num_groups, NORM_EPSILON);
  return convLayer(ops, p.at("conv_out"), silu(ops, normalized), channels);
}

// ---------------------------------------------------------------------------------------------------------------------
// Assembly

/** A diagonal Gaussian over latents. */
export interface Posterior<T> {
  /** [batch, latent_channels, height, width] */
  readonly mean: T;
  /** Natural logarithm of the variance, clamped to [-30, 20]; the mean's shape. */
  readonly logVariance: T;
}

/**
 * Images [batch, in_channels, height, width] in [-1, 1] to the posterior over latents, smaller by f = 2 ** (levels - 1).
 * The posterior's mode is its mean. Parameters lie under "encoder" and "quant_conv".
 *
 * @example
 * const latents = toDiffusionLatents(ops, config, encodeKl(ops, scope(ops, params), config, images).mean);
 */
export function encodeKl<T>(ops: Ops<T>, p: Scope<T>, config: AutoencoderKlConfig, images: T): Posterior<T> {
  return posteriorFromMoments(ops, klMoments(ops, p, config, images));
}

/** The posterior of `encodeKl` as one tensor [batch, 2 * latent_channels, height / f, width / f], as tiles blend it. */
export function klMoments<T>(ops: Ops<T>, p: Scope<T>, config: AutoencoderKlConfig, images: T): T {
  expectChannels(ops, "klMoments: images", images, config.in_channels);
  const encoder = p.at("encoder");
  const levels = config.block_out_channels;
  let h = convLayer(ops, encoder.at("conv_in"), images, levels[0] ?? 1);
  for (const [level, channels] of levels.entries()) {
    const block = encoder.at(`down_blocks.${level}`);
    for (let layer = 0; layer < config.layers_per_block; layer++) {
      h = residualBlock(ops, block.at(`resnets.${layer}`), h, channels, config.norm_num_groups);
    }
    if (level < levels.length - 1) {
      // diffusers pads at the bottom and on the right alone.
      h = convLayer(ops, block.at("downsamplers.0.conv"), h, channels, { stride: 2, padding: [0, 1, 0, 1] });
    }
  }
  h = midStage(ops, encoder.at("mid_block"), h, config);
  const moments = outputLayers(ops, encoder, h, 2 * config.latent_channels, config);
  if (!config.use_quant_conv) return moments;
  return convLayer(ops, p.at("quant_conv"), moments, 2 * config.latent_channels, { kernel: 1 });
}

/** Moments [batch, 2 * latent_channels, height, width]: the means, then the logarithms of the variances. */
export function posteriorFromMoments<T>(ops: Ops<T>, moments: T): Posterior<T> {
  const channels = (ops.shape(moments)[1] ?? 2) / 2;
  const logVariance = ops.slice(moments, 1, channels, channels);
  return {
    mean: ops.slice(moments, 1, 0, channels),
    logVariance: ops.minimum(ops.maximum(logVariance, -30), 20), // diffusers' DiagonalGaussianDistribution
  };
}

/**
 * Latents [batch, latent_channels, height, width] (unscaled, as from `encodeKl`) to images [batch, out_channels, height * f,
 * width * f] around [-1, 1], not clipped. Parameters lie under "decoder" and "post_quant_conv".
 *
 * @example
 * const images = decodeKl(ops, scope(ops, params), config, fromDiffusionLatents(ops, config, latents));
 */
export function decodeKl<T>(ops: Ops<T>, p: Scope<T>, config: AutoencoderKlConfig, latents: T): T {
  expectChannels(ops, "decodeKl: latents", latents, config.latent_channels);
  const decoder = p.at("decoder");
  const levels = [...config.block_out_channels].reverse();
  let h = latents;
  if (config.use_post_quant_conv) {
    h = convLayer(ops, p.at("post_quant_conv"), h, config.latent_channels, { kernel: 1 });
  }
  h = convLayer(ops, decoder.at("conv_in"), h, levels[0] ?? 1);
  h = midStage(ops, decoder.at("mid_block"), h, config);
  for (const [level, channels] of levels.entries()) {
    const block = decoder.at(`up_blocks.${level}`);
    for (let layer = 0; layer < config.layers_per_block + 1; layer++) {
      h = residualBlock(ops, block.at(`resnets.${layer}`), h, channels, config.norm_num_groups);
    }
    if (level < levels.length - 1) {
      const [, , height = 1, width = 1] = ops.shape(h);
      h = convLayer(ops, block.at("upsamplers.0.conv"), ops.resizeNearest(h, [2 * height, 2 * width]), channels);
    }
  }
  return outputLayers(ops, decoder, h, config.out_channels, config);
}

type LatentScale = Pick<AutoencoderKlConfig, "scaling_factor"> & Partial<Pick<AutoencoderKlConfig, "shift_factor">>;

/** An autoencoder's latents to those that its diffusion model works on, (latents - shift_factor) * scaling_factor. Any shape. */
export function toDiffusionLatents<T>(ops: Ops<T>, config: LatentScale, latents: T): T {
  return ops.mul(ops.sub(latents, config.shift_factor ?? 0), config.scaling_factor);
}

/** The inverse of `toDiffusionLatents`: what a decoder takes. Any shape. */
export function fromDiffusionLatents<T>(ops: Ops<T>, config: LatentScale, latents: T): T {
  return ops.add(ops.mul(latents, 1 / config.scaling_factor), config.shift_factor ?? 0);
}

/** mean + standard deviation * noise, with standard normal noise of the mean's shape. */
export function samplePosterior<T>(ops: Ops<T>, posterior: Posterior<T>, noise: T): T {
  return ops.add(posterior.mean, ops.mul(ops.exp(ops.mul(posterior.logVariance, 0.5)), noise));
}

/**
 * Kullback-Leibler divergence of a posterior from the standard normal distribution, summed over latents: [batch], nats.
 * 0.5 sum(mean^2 + variance - 1 - log variance).
 */
export function posteriorKl<T>(ops: Ops<T>, posterior: Posterior<T>): T {
  const { mean, logVariance } = posterior;
  const terms = ops.sub(ops.add(ops.square(mean), ops.exp(logVariance)), ops.add(logVariance, 1));
  return ops.mul(ops.sum(terms, { axes: [1, 2, 3] }), 0.5);
}

/** Names, shapes and initialisations of the parameters of `encodeKl`; nothing is computed. */
export function klEncoderParameters(config: AutoencoderKlConfig): Record<string, ParameterSpec> {
  const side = 2 ** (config.block_out_channels.length - 1); // the smallest that halves evenly
  return declareParameters((ops, p, { images }) => encodeKl(ops, p, config, images), {
    images: { shape: [1, config.in_channels, side, side] },
  });
}

/** Names, shapes and initialisations of the parameters of `decodeKl`; nothing is computed. */
export function klDecoderParameters(config: AutoencoderKlConfig): Record<string, ParameterSpec> {
  return declareParameters((ops, p, { latents }) => decodeKl(ops, p, config, latents), {
    latents: { shape: [1, config.latent_channels, 1, 1] },
  });
}

/** Those of the whole autoencoder, as in a diffusers checkpoint. */
export function autoencoderKlParameters(config: AutoencoderKlConfig): Record<string, ParameterSpec> {
  return { ...klEncoderParameters(config), ...klDecoderParameters(config) };
}

/** Former and present names of the attention's projections in diffusers. */
const attentionNames = { query: "to_q", key: "to_k", value: "to_v", proj_attn: "to_out.0" } as const;

/**
 * Weights with the attention's projections under their present names. SD 1's VAEs are stored under the former ones, as
 * "encoder.mid_block.attentions.0.query.weight", and diffusers renames them when it loads them. Other names are not changed.
 *
 * @example
 * const { tensors } = await readSafetensorsFile("vae/diffusion_pytorch_model.safetensors");
 * const weights = fromFormerKlNames(tensors);
 */
export function fromFormerKlNames<V>(weights: Readonly<Record<string, V>>): Record<string, V> {
  const renamed = (name: string): string =>
    name.replace(
      /(?<=\.attentions\.\d+\.)(query|key|value|proj_attn)(?=\.(?:weight|bias)$)/,
      (former) => attentionNames[former as keyof typeof attentionNames],
    );
  return Object.fromEntries(Object.entries(weights).map(([name, value]) => [renamed(name), value]));
}

function expectChannels<T>(ops: Ops<T>, what: string, x: T, channels: number): void {
  const shape = ops.shape(x);
  if (shape.length === 4 && shape[1] === channels) return;
  throw new ShapeError(`${what} must be [batch, ${channels}, height, width], got [${shape.join(", ")}].`);
}
