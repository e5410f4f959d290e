import {
  ShapeError,
  UnsupportedConfigError,
  configReader,
  convLayer,
  declareParameters,
  finiteNumber,
  flag,
  groupNormLayer,
  listOf,
  oneOf,
  positiveInteger,
  wholeNumber,
  type OnUnknownFields,
  type Ops,
  type ParameterSpec,
  type Scope,
} from "@sdxs/tensor";

/**
 * The configuration of a tiny autoencoder, in the fields of diffusers' `AutoencoderTiny` config.json.
 * The defaults are TAESD's, whose decoder is the paper's 1.2 M parameter decoder: convolutions only, no attention, no normalisation.
 */
export interface AutoencoderTinyConfig {
  /** Image channels. */
  readonly in_channels: number;
  readonly out_channels: number;
  readonly latent_channels: number;
  /**
   * Channels of each encoder stage, highest resolution first. Each stage but the first halves the resolution.
   * diffusers runs equal numbers only; unequal ones work here, at the stages' strided convolutions.
   */
  readonly encoder_block_out_channels: readonly number[];
  /** Channels of each decoder stage, lowest resolution first. Each stage but the last enlarges the resolution. */
  readonly decoder_block_out_channels: readonly number[];
  /** Residual blocks of each encoder stage. */
  readonly num_encoder_blocks: readonly number[];
  /** Residual blocks of each decoder stage. */
  readonly num_decoder_blocks: readonly number[];
  /** Enlargement by each decoder stage but the last. */
  readonly upsampling_scaling_factor: number;
  /** Latents in [-latent_magnitude, latent_magnitude] map to [0, 1] by `scaleLatents`. */
  readonly latent_magnitude: number;
  /** The value of latent 0 in [0, 1]. */
  readonly latent_shift: number;
  /** Latents of the diffusion model are the encoder's times this. 1: TAESD's already have unit scale. */
  readonly scaling_factor: number;
  /**
   * A branch with a group norm over the whole image in each block of the lowest resolution, as in TAEF2. TAESD's name of
   * it: diffusers' `AutoencoderTiny` has no such field, so the published TAEF2 comes without a config.json.
   */
  readonly use_midblock_gn?: boolean;
}

/** TAESD's, which is also all of diffusers' defaults: https://huggingface.co/madebyollin/taesd, config.json. */
const taesd: AutoencoderTinyConfig = {
  in_channels: 3,
  out_channels: 3,
  latent_channels: 4,
  encoder_block_out_channels: [64, 64, 64, 64],
  decoder_block_out_channels: [64, 64, 64, 64],
  num_encoder_blocks: [1, 3, 3, 3],
  num_decoder_blocks: [3, 3, 3, 1],
  upsampling_scaling_factor: 2,
  latent_magnitude: 3,
  latent_shift: 0.5,
  scaling_factor: 1,
};

/** Published tiny autoencoders. Latent channels and the group norm are as in https://github.com/madebyollin/taesd, taesd.py. */
export const autoencoderTinyPresets = {
  /** For SD 1 and SD 2. */
  taesd,
  /** For SDXL: TAESD's architecture with other weights. */
  taesdxl: taesd,
  /** For SD 3. */
  taesd3: { ...taesd, latent_channels: 16 },
  /** For FLUX.1. */
  taef1: { ...taesd, latent_channels: 16 },
  /** For FLUX.2. */
  taef2: { ...taesd, latent_channels: 32, use_midblock_gn: true },
} as const satisfies Record<string, AutoencoderTinyConfig>;

/**
 * Reads diffusers' config.json of an `AutoencoderTiny`. Absent fields take diffusers' defaults;
 * `onUnknown` is called with fields that the model does not have, which are ignored.
 * Throws `UnsupportedConfigError`, naming the field, its value and what is supported.
 */
export function parseAutoencoderTinyConfig(json: unknown, onUnknown?: OnUnknownFields): AutoencoderTinyConfig {
  const read = configReader("AutoencoderTiny", json);
  read("_class_name", oneOf(["AutoencoderTiny"]), "AutoencoderTiny");
  read("act_fn", oneOf(["relu"]), "relu");
  read("upsample_fn", oneOf(["nearest"]), "nearest");
  read("shift_factor", oneOf([0]), 0);
  // diffusers writes the first again as decoder_block_out_channels, and never reads the second.
  read.skip("block_out_channels", "force_upcast");
  const config: AutoencoderTinyConfig = {
    in_channels: read("in_channels", positiveInteger, taesd.in_channels),
    out_channels: read("out_channels", positiveInteger, taesd.out_channels),
    latent_channels: read("latent_channels", positiveInteger, taesd.latent_channels),
    encoder_block_out_channels: read(
      "encoder_block_out_channels",
      listOf(positiveInteger),
      taesd.encoder_block_out_channels,
    ),
    decoder_block_out_channels: read(
      "decoder_block_out_channels",
      listOf(positiveInteger),
      taesd.decoder_block_out_channels,
    ),
    num_encoder_blocks: read("num_encoder_blocks", listOf(wholeNumber), taesd.num_encoder_blocks),
    num_decoder_blocks: read("num_decoder_blocks", listOf(wholeNumber), taesd.num_decoder_blocks),
    upsampling_scaling_factor: read("upsampling_scaling_factor", positiveInteger, taesd.upsampling_scaling_factor),
    latent_magnitude: read("latent_magnitude", finiteNumber, taesd.latent_magnitude),
    latent_shift: read("latent_shift", finiteNumber, taesd.latent_shift),
    scaling_factor: read("scaling_factor", finiteNumber, taesd.scaling_factor),
    // Not a field of diffusers: only where it says something.
    ...(read("use_midblock_gn", flag, false) && { use_midblock_gn: true }),
  };
  for (const half of ["encoder", "decoder"] as const) {
    const channels = config[`${half}_block_out_channels`];
    const blocks = config[`num_${half}_blocks`];
    if (channels.length !== blocks.length) {
      throw new UnsupportedConfigError(
        `AutoencoderTiny: "num_${half}_blocks" is ${JSON.stringify(blocks)}; supported: ${channels.length} numbers, ` +
          `one per stage of "${half}_block_out_channels".`,
      );
    }
  }
  read.reportUnknown(onUnknown);
  return config;
}

/** TAESD's taesd.py: the branch has 4 times the block's channels, normalised in 4 groups. The epsilon is PyTorch's default. */
const NORM_BRANCH = { expansion: 4, groups: 4, epsilon: 1e-5 };

/** TAEF2's branch, around a residual: the only part that sees the whole image. x [batch, channels, height, width] keeps its shape. */
function normBranch<T>(ops: Ops<T>, p: Scope<T>, x: T): T {
  const [, channels = 1] = ops.shape(x);
  const { expansion, groups, epsilon } = NORM_BRANCH;
  const wide = convLayer(ops, p.at(0), x, expansion * channels, { kernel: 1, bias: false });
  const normalized = ops.relu(groupNormLayer(ops, p.at(1), wide, groups, epsilon));
  return ops.add(x, convLayer(ops, p.at(3), normalized, channels, { kernel: 1, bias: false }));
}

/** AutoencoderTinyBlock: three convolutions around a residual. x [batch, in, height, width] gives [batch, channels, ...]. */
function tinyBlock<T>(ops: Ops<T>, p: Scope<T>, input: T, channels: number, withNorm: boolean): T {
  const x = withNorm ? normBranch(ops, p.at("pool"), input) : input;
  let h = ops.relu(convLayer(ops, p.at("conv.0"), x, channels));
  h = ops.relu(convLayer(ops, p.at("conv.2"), h, channels));
  h = convLayer(ops, p.at("conv.4"), h, channels);
  const [, inChannels] = ops.shape(x);
  const skip = inChannels === channels ? x : convLayer(ops, p.at("skip"), x, channels, { kernel: 1, bias: false });
  return ops.relu(ops.add(h, skip));
}

/**
 * Images [batch, in_channels, height, width] in [-1, 1] to latents [batch, latent_channels, height / f, width / f], where
 * f = 2 ** (stages - 1). For TAESD the latents are those of the diffusion model (already times the large VAE's scaling factor).
 * Parameters lie under "encoder.layers".
 *
 * @example
 * const latents = encodeTiny(ops, scope(ops, params), config, images);
 */
export function encodeTiny<T>(ops: Ops<T>, p: Scope<T>, config: AutoencoderTinyConfig, images: T): T {
  expectChannels(ops, "encodeTiny: images", images, config.in_channels);
  const layers = p.at("encoder.layers");
  let layer = 0;
  let h = ops.mul(ops.add(images, 1), 0.5); // TAESD was trained on [0, 1]
  const stages = config.encoder_block_out_channels;
  for (const [stage, channels] of stages.entries()) {
    const withNorm = config.use_midblock_gn === true && stage === stages.length - 1;
    const options = stage === 0 ? {} : { stride: 2, bias: false };
    h = convLayer(ops, layers.at(layer++), h, channels, options);
    for (let block = 0; block < (config.num_encoder_blocks[stage] ?? 0); block++) {
      h = tinyBlock(ops, layers.at(layer++), h, channels, withNorm);
    }
  }
  return convLayer(ops, layers.at(layer), h, config.latent_channels);
}

/**
 * Latents [batch, latent_channels, height, width] to images [batch, out_channels, height * f, width * f] around [-1, 1]
 * (not clipped), where f = upsampling_scaling_factor ** (stages - 1). Latents are bounded to (-3, 3) by 3 tanh(z / 3) first.
 * Parameters lie under "decoder.layers".
 *
 * @example
 * const images = decodeTiny(ops, scope(ops, params), config, latents);
 */
export function decodeTiny<T>(ops: Ops<T>, p: Scope<T>, config: AutoencoderTinyConfig, latents: T): T {
  expectChannels(ops, "decodeTiny: latents", latents, config.latent_channels);
  const layers = p.at("decoder.layers");
  const stages = config.decoder_block_out_channels;
  // Layer 1 is an activation and each upsampling is a layer too: neither has parameters, both count in the names.
  let layer = 2;
  const bounded = ops.mul(ops.tanh(ops.mul(latents, 1 / 3)), 3); // 3: fixed in TAESD
  let h = ops.relu(convLayer(ops, layers.at(0), bounded, stages[0] ?? 1));
  for (const [stage, channels] of stages.entries()) {
    const withNorm = config.use_midblock_gn === true && stage === 0;
    for (let block = 0; block < (config.num_decoder_blocks[stage] ?? 0); block++) {
      h = tinyBlock(ops, layers.at(layer++), h, channels, withNorm);
    }
    const next = stages[stage + 1];
    if (next === undefined) {
      h = convLayer(ops, layers.at(layer++), h, config.out_channels);
    } else {
      const [, , height = 1, width = 1] = ops.shape(h);
      const factor = config.upsampling_scaling_factor;
      h = ops.resizeNearest(h, [height * factor, width * factor]);
      layer++;
      h = convLayer(ops, layers.at(layer++), h, next, { bias: false });
    }
  }
  return ops.sub(ops.mul(h, 2), 1); // [0, 1] to [-1, 1]
}

/** Latents to [0, 1], clipped: storable as 8-bit images. diffusers' `scale_latents`. */
export function scaleLatents<T>(ops: Ops<T>, config: AutoencoderTinyConfig, latents: T): T {
  const scaled = ops.add(ops.mul(latents, 1 / (2 * config.latent_magnitude)), config.latent_shift);
  return ops.minimum(ops.maximum(scaled, 0), 1);
}

/** The inverse of `scaleLatents`, within its range. */
export function unscaleLatents<T>(ops: Ops<T>, config: AutoencoderTinyConfig, scaled: T): T {
  return ops.mul(ops.sub(scaled, config.latent_shift), 2 * config.latent_magnitude);
}

/**
 * How many image pixels to each side a latent of `encodeTiny` depends on: 145 for TAESD. Infinity where a group norm sees
 * the whole image. Tiles whose margin is at least that (and a multiple of f) give the exact latents: see `computeInTiles`.
 */
export function tinyEncoderReach(config: AutoencoderTinyConfig): number {
  if (config.use_midblock_gn) return Infinity;
  let reach = 1; // the last convolution, in latents; each 3x3 convolution adds one pixel of its own resolution
  for (const [stage, blocks] of [...config.num_encoder_blocks.entries()].reverse()) {
    reach += 3 * blocks;
    reach = stage === 0 ? reach + 1 : 2 * reach + 1; // stride 2: twice as many pixels
  }
  return reach;
}

/**
 * How many latents to each side a pixel of `decodeTiny` depends on: 19 for TAESD. Infinity where a group norm sees the
 * whole image. Tiles whose margin is at least that give the exact image: see `computeInTiles`.
 */
export function tinyDecoderReach(config: AutoencoderTinyConfig): number {
  if (config.use_midblock_gn) return Infinity;
  let reach = 1; // the last convolution, in pixels
  for (const [stage, blocks] of [...config.num_decoder_blocks.entries()].reverse()) {
    reach += 3 * blocks + 1; // and the convolution before the blocks
    if (stage > 0) reach = Math.ceil(reach / config.upsampling_scaling_factor);
  }
  return reach;
}

/** Names, shapes and initialisations of the encoder's parameters; nothing is computed. */
export function tinyEncoderParameters(config: AutoencoderTinyConfig): Record<string, ParameterSpec> {
  const side = 2 ** (config.encoder_block_out_channels.length - 1); // the smallest that halves evenly
  return declareParameters((ops, p, { images }) => encodeTiny(ops, p, config, images), {
    images: { shape: [1, config.in_channels, side, side] },
  });
}

/** Names, shapes and initialisations of the decoder's parameters; nothing is computed. */
export function tinyDecoderParameters(config: AutoencoderTinyConfig): Record<string, ParameterSpec> {
  return declareParameters((ops, p, { latents }) => decodeTiny(ops, p, config, latents), {
    latents: { shape: [1, config.latent_channels, 1, 1] },
  });
}

/** Those of the whole autoencoder, as in a diffusers checkpoint. */
export function autoencoderTinyParameters(config: AutoencoderTinyConfig): Record<string, ParameterSpec> {
  return { ...tinyEncoderParameters(config), ...tinyDecoderParameters(config) };
}

function expectChannels<T>(ops: Ops<T>, what: string, x: T, channels: number): void {
  const shape = ops.shape(x);
  if (shape.length === 4 && shape[1] === channels) return;
  throw new ShapeError(`${what} must be [batch, ${channels}, height, width], got [${shape.join(", ")}].`);
}
