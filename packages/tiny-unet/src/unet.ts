import {
  HostTensor,
  InvalidArgumentError,
  ShapeError,
  checkFields,
  convLayer,
  declareParameters,
  gelu,
  gradientCheckpoint,
  groupNormLayer,
  layerNormLayer,
  linearLayer,
  multiHeadAttention,
  silu,
  type Ops,
  type ParameterSpec,
  type Scope,
  type Shape,
} from "@sdxs/tensor";
import {
  unetEncoderStages,
  unetStages,
  type UNetConfig,
  type UNetEncoderConfig,
  type UNetEncoderStages,
  type UNetStage,
} from "./unet-config.js";

// ---------------------------------------------------------------------------------------------------------------------
// Blocks

/**
 * Sinusoidal features of timesteps (or of SDXL's sizes), as in diffusers' `get_timestep_embedding`.
 * values [n] float32 gives [n, features]; `features` is even.
 */
export function sinusoidalEmbedding<T>(
  ops: Ops<T>,
  values: T,
  features: number,
  options: { readonly cosineFirst: boolean; readonly frequencyShift: number },
): T {
  const half = features / 2;
  // Rounded to float32 after each step, as diffusers computes them: at t = 999 the last digit shows in the angle.
  const scale = Math.fround(-Math.log(10000)); // longest period 10000, from "Attention Is All You Need", section 3.5
  const frequencies = Float32Array.from({ length: half }, (_, index) =>
    Math.exp(Math.fround(Math.fround(scale * index) / (half - options.frequencyShift))),
  );
  const angles = ops.mul(ops.reshape(values, [-1, 1]), ops.constant(frequencies, [1, half])); // [n, features / 2]
  const sine = ops.sin(angles);
  const cosine = ops.cos(angles);
  return ops.concat(options.cosineFirst ? [cosine, sine] : [sine, cosine], 1);
}

/**
 * The embedding of a guidance scale [1, features] that latent consistency models take beside the timestep's, as diffusers'
 * `get_guidance_scale_embedding` gives it for `guidanceScale` - 1: 7.5 and 8.5 are usual scales. `features` is the U-Net's
 * `time_cond_proj_dim`.
 *
 * @example
 * unet(ops, p, config, { ...inputs, guidanceEmbedding: guidanceScaleEmbedding(8.5, config.time_cond_proj_dim) });
 */
export function guidanceScaleEmbedding(guidanceScale: number, features: number): HostTensor {
  const half = Math.floor(features / 2);
  const data = new Float32Array(features); // of an odd number of features the last is 0
  // Rounded to float32 after each step, as diffusers computes it: angles reach thousands of radians.
  const weight = Math.fround(Math.fround(guidanceScale - 1) * 1000);
  const decay = -Math.fround(Math.fround(Math.log(10000)) / (half - 1));
  for (let index = 0; index < half; index++) {
    const angle = Math.fround(weight * Math.fround(Math.exp(Math.fround(index * decay))));
    data[index] = Math.sin(angle);
    data[half + index] = Math.cos(angle);
  }
  return new HostTensor([1, features], data);
}

/**
 * diffusers' TimestepEmbedding: linear, SiLU, linear. x [batch, in], to which `condition` is added by a projection of its own,
 * gives [batch, features].
 */
function embeddingMlp<T>(ops: Ops<T>, p: Scope<T>, x: T, features: number, condition?: T): T {
  const width = sizeAt(ops, x, 1);
  const input =
    condition === undefined ? x : ops.add(x, linearLayer(ops, p.at("cond_proj"), condition, width, { bias: false }));
  const hidden = silu(ops, linearLayer(ops, p.at("linear_1"), input, features));
  return linearLayer(ops, p.at("linear_2"), hidden, features);
}

/** What all blocks of one call share. */
export interface UNetConditioning<T> {
  readonly config: UNetEncoderConfig;
  /** [batch or 1, features] */
  readonly timeEmbedding: T;
  /** Of text_time; [batch, features]. */
  readonly addEmbedding: T | undefined;
  /** SiLU of the embeddings' sum: each residual block projects the same. [batch or 1, features] */
  readonly activatedEmbedding: T;
  /** Text embeddings [batch, tokens, cross_attention_dim]. */
  readonly context: T;
  /** See `UNetInputs`. */
  readonly gradientCheckpointing: boolean;
}

/** ResnetBlock2D. x [batch, in, height, width] gives [batch, channels, height, width]. */
function residualBlock<T>(ops: Ops<T>, p: Scope<T>, x: T, channels: number, conditioning: UNetConditioning<T>): T {
  const { config, activatedEmbedding } = conditioning;
  const normalized = (name: string, h: T): T =>
    silu(ops, groupNormLayer(ops, p.at(name), h, config.norm_num_groups, config.norm_eps));

  const first = convLayer(ops, p.at("conv1"), normalized("norm1", x), channels);
  const shift = linearLayer(ops, p.at("time_emb_proj"), activatedEmbedding, channels);
  const shifted = ops.add(first, ops.reshape(shift, [-1, channels, 1, 1]));
  const second = convLayer(ops, p.at("conv2"), normalized("norm2", shifted), channels);
  const shortcut =
    sizeAt(ops, x, 1) === channels ? x : convLayer(ops, p.at("conv_shortcut"), x, channels, { kernel: 1 });
  return ops.add(shortcut, second);
}

/** Attention of x [batch, tokens, features] to context [batch, contextTokens, contextFeatures]. */
function contextAttention<T>(ops: Ops<T>, p: Scope<T>, x: T, context: T, heads: number): T {
  const features = sizeAt(ops, x, 2);
  const project = (name: string, source: T): T => linearLayer(ops, p.at(name), source, features, { bias: false });
  const attended = multiHeadAttention(
    ops,
    project("to_q", x),
    project("to_k", context),
    project("to_v", context),
    heads,
  );
  return linearLayer(ops, p.at("to_out.0"), attended, features);
}

/** GEGLU feed-forward network with four times the features inside. x [batch, tokens, features]. */
function feedForward<T>(ops: Ops<T>, p: Scope<T>, x: T): T {
  const features = sizeAt(ops, x, 2);
  const inner = 4 * features;
  const projected = linearLayer(ops, p.at("net.0.proj"), x, 2 * inner);
  const gate = gelu(ops, ops.slice(projected, 2, inner, inner));
  return linearLayer(ops, p.at("net.2"), ops.mul(ops.slice(projected, 2, 0, inner), gate), features);
}

interface AttentionOptions {
  readonly heads: number;
  readonly onlyCrossAttention: boolean;
}

/** BasicTransformerBlock: self-attention (or attention to the text), attention to the text, feed-forward. */
function transformerBlock<T>(ops: Ops<T>, p: Scope<T>, x: T, context: T, options: AttentionOptions): T {
  const own = layerNormLayer(ops, p.at("norm1"), x);
  const first = options.onlyCrossAttention ? context : own;
  let h = ops.add(x, contextAttention(ops, p.at("attn1"), own, first, options.heads));
  h = ops.add(h, contextAttention(ops, p.at("attn2"), layerNormLayer(ops, p.at("norm2"), h), context, options.heads));
  return ops.add(h, feedForward(ops, p.at("ff"), layerNormLayer(ops, p.at("norm3"), h)));
}

/** Transformer2DModel: transformer blocks over the pixels of x [batch, channels, height, width], around a residual. */
function imageTransformer<T>(
  ops: Ops<T>,
  p: Scope<T>,
  x: T,
  depth: number,
  options: AttentionOptions,
  { config, context }: UNetConditioning<T>,
): T {
  const [, channels = 1, height = 1, width = 1] = ops.shape(x);
  const toTokens = (image: T): T => ops.transpose(ops.reshape(image, [-1, channels, height * width]), [0, 2, 1]); // [batch, pixels, channels]
  const toImage = (tokens: T): T => ops.reshape(ops.transpose(tokens, [0, 2, 1]), [-1, channels, height, width]); // [batch, channels, height, width]

  // 1e-6: fixed in diffusers' Transformer2DModel.
  const normalized = groupNormLayer(ops, p.at("norm"), x, config.norm_num_groups, 1e-6);
  let tokens = config.use_linear_projection
    ? linearLayer(ops, p.at("proj_in"), toTokens(normalized), channels)
    : toTokens(convLayer(ops, p.at("proj_in"), normalized, channels, { kernel: 1 }));
  for (let index = 0; index < depth; index++) {
    tokens = transformerBlock(ops, p.at(`transformer_blocks.${index}`), tokens, context, options);
  }
  const projected = config.use_linear_projection
    ? toImage(linearLayer(ops, p.at("proj_out"), tokens, channels))
    : convLayer(ops, p.at("proj_out"), toImage(tokens), channels, { kernel: 1 });
  return ops.add(projected, x);
}

/** What `compute` gives: the unit of gradient checkpointing. */
function block<T>(ops: Ops<T>, { gradientCheckpointing }: UNetConditioning<T>, compute: () => T): T {
  return gradientCheckpointing ? gradientCheckpoint(ops, compute) : compute();
}

/** A residual block of a stage, on x and in up stages a skip connection, with the transformer after it, if any. */
function stageLayer<T>(
  ops: Ops<T>,
  p: Scope<T>,
  x: T,
  skip: T | undefined,
  stage: UNetStage,
  index: number,
  conditioning: UNetConditioning<T>,
): T {
  return block(ops, conditioning, () => {
    const joined = skip === undefined ? x : ops.concat([x, skip], 1);
    const h = residualBlock(ops, p.at(`resnets.${index}`), joined, stage.channels, conditioning);
    const depth = stage.transformerLayers[index] ?? 0;
    return depth === 0 ? h : imageTransformer(ops, p.at(`attentions.${index}`), h, depth, stage, conditioning);
  });
}

/** DownBlock2D or CrossAttnDownBlock2D: the outputs of its layers and, last, of its downsampler. */
function downStage<T>(ops: Ops<T>, p: Scope<T>, x: T, stage: UNetStage, conditioning: UNetConditioning<T>): T[] {
  const residuals: T[] = [];
  let h = x;
  for (const index of stage.transformerLayers.keys()) {
    h = stageLayer(ops, p, h, undefined, stage, index, conditioning);
    residuals.push(h);
  }
  if (stage.resamples) residuals.push(convLayer(ops, p.at("downsamplers.0.conv"), h, stage.channels, { stride: 2 }));
  return residuals;
}

/** UNetMidBlock2DCrossAttn (residual block, transformer, residual block) or UNetMidBlock2D (one residual block). */
function midStage<T>(
  ops: Ops<T>,
  p: Scope<T>,
  x: T,
  stage: NonNullable<UNetEncoderStages["mid"]>,
  conditioning: UNetConditioning<T>,
): T {
  return block(ops, conditioning, () => {
    const h = residualBlock(ops, p.at("resnets.0"), x, stage.channels, conditioning);
    if (stage.transformerLayers === 0) return h;
    const options = { heads: stage.heads, onlyCrossAttention: false };
    const attended = imageTransformer(ops, p.at("attentions.0"), h, stage.transformerLayers, options, conditioning);
    return residualBlock(ops, p.at("resnets.1"), attended, stage.channels, conditioning);
  });
}

/** UpBlock2D or CrossAttnUpBlock2D. Takes its skip connections from the end of `skips`. */
function upStage<T>(
  ops: Ops<T>,
  p: Scope<T>,
  x: T,
  stage: UNetStage,
  skips: T[],
  conditioning: UNetConditioning<T>,
): T {
  let h = x;
  for (const index of stage.transformerLayers.keys()) {
    const skip = skips.pop() as T; // every down layer left one: see unetStages
    h = stageLayer(ops, p, h, skip, stage, index, conditioning);
  }
  const next = skips.at(-1);
  if (!stage.resamples || next === undefined) return h;
  // To the next skip's size, which is not twice this one's where a size was odd in the down stages.
  const [, , height = 1, width = 1] = ops.shape(next);
  const lowest = h;
  return block(ops, conditioning, () =>
    convLayer(ops, p.at("upsamplers.0.conv"), ops.resizeNearest(lowest, [height, width]), stage.channels),
  );
}

// ---------------------------------------------------------------------------------------------------------------------
// Assembly

export interface UNetInputs<T> {
  /** Latents to denoise [batch, in_channels, height, width]; any size. */
  readonly sample: T;
  /** [batch], or [1] for the whole batch; int32 or float32, in the scheduler's units (0 to 999). */
  readonly timestep: T;
  /** Text embeddings [batch, tokens, cross_attention_dim]. */
  readonly encoderHiddenStates: T;
  /** For `addition_embed_type` "text_time" (SDXL). */
  readonly addedConditions?: {
    /** Pooled text embedding [batch, features]. */
    readonly textEmbeds: T;
    /** Original height and width, crop top and left, target height and width: [batch, 6], pixels. */
    readonly timeIds: T;
  };
  /** For a `time_cond_proj_dim`: `guidanceScaleEmbedding` [batch or 1, time_cond_proj_dim]. */
  readonly guidanceEmbedding?: T;
  /** The outputs of `controlNet` of `@sdxs/controlnet`. */
  readonly controlResiduals?: ControlResiduals<T>;
  /**
   * In training, compute the inside of each block again for the gradient instead of keeping it: less memory for
   * more time, see `gradientCheckpoint` of `@sdxs/tensor`. Default false.
   */
  readonly gradientCheckpointing?: boolean;
}

/** A ControlNet's outputs, already scaled. Their shapes are those of what they are added to, or [batch, channels, 1, 1]. */
export interface ControlResiduals<T> {
  /** One for `convIn` and for each of `downResiduals`, in that order. */
  readonly down: readonly T[];
  /** Joins the lowest resolution's result, mid stage or not. */
  readonly mid: T;
}

/** What the encoder half needs. */
export type UNetEncoderInputs<T> = Omit<UNetInputs<T>, "controlResiduals">;

/** Feature maps of the U-Net's encoder half, for feature matching and distillation. */
export interface UNetEncoderFeatures<T> {
  /** [batch or 1, features] */
  readonly timeEmbedding: T;
  /** Of text_time; [batch, features]. */
  readonly addEmbedding: T | undefined;
  /** [batch, channels of the first level, height, width] */
  readonly convIn: T;
  /** Output of each down stage, highest resolution first, after its downsampler. */
  readonly downBlocks: readonly T[];
  /** For each down stage the outputs of its layers and, last, of its downsampler. */
  readonly downResiduals: readonly (readonly T[])[];
  /** undefined without a mid stage. */
  readonly midBlock: T | undefined;
}

export interface UNetFeatures<T> extends UNetEncoderFeatures<T> {
  /** Output of each up stage, lowest resolution first, after its upsampler. */
  readonly upBlocks: readonly T[];
  /** The last normalisation's output. */
  readonly convNormOut: T;
}

/**
 * Embeds the timestep, and SDXL's added conditions where the configuration has them, into `features` numbers.
 * The first part of `unet`, for networks made of its blocks: its inputs must have passed `checkUNetInputs`.
 */
export function unetConditioning<T>(
  ops: Ops<T>,
  p: Scope<T>,
  config: UNetEncoderConfig,
  inputs: UNetEncoderInputs<T>,
  features: number,
): UNetConditioning<T> {
  const sinusoids = { cosineFirst: config.flip_sin_to_cos, frequencyShift: config.freq_shift };
  const timestep = ops.cast(inputs.timestep, "float32");
  const timeFeatures = sinusoidalEmbedding(ops, timestep, config.block_out_channels[0] ?? 1, sinusoids);
  const timeEmbedding = embeddingMlp(ops, p.at("time_embedding"), timeFeatures, features, inputs.guidanceEmbedding);
  let addEmbedding: T | undefined;
  if (config.addition_embed_type === "text_time" && inputs.addedConditions) {
    const { textEmbeds, timeIds } = inputs.addedConditions;
    const perSize = config.addition_time_embed_dim ?? 1;
    const sizes = sinusoidalEmbedding(ops, ops.cast(timeIds, "float32"), perSize, sinusoids); // [batch * 6, perSize]
    const sizeFeatures = ops.reshape(sizes, [-1, sizeAt(ops, timeIds, 1) * perSize]); // [batch, 6 * perSize]
    const added = ops.concat([textEmbeds, sizeFeatures], 1);
    addEmbedding = embeddingMlp(ops, p.at("add_embedding"), added, features);
  }
  const embedding = addEmbedding === undefined ? timeEmbedding : ops.add(timeEmbedding, addEmbedding);
  const activatedEmbedding = silu(ops, embedding);
  const { encoderHiddenStates: context, gradientCheckpointing = false } = inputs;
  return { config, timeEmbedding, addEmbedding, activatedEmbedding, context, gradientCheckpointing };
}

/**
 * The down stages and the mid stage of `unet` on x [batch, channels of the first level, height, width], for networks
 * made of its blocks.
 */
export function unetEncoderBlocks<T>(
  ops: Ops<T>,
  p: Scope<T>,
  x: T,
  conditioning: UNetConditioning<T>,
): Pick<UNetEncoderFeatures<T>, "downBlocks" | "downResiduals" | "midBlock"> {
  const stages = unetEncoderStages(conditioning.config);
  const downBlocks: T[] = [];
  const downResiduals: T[][] = [];
  let h = x;
  for (const [index, stage] of stages.down.entries()) {
    const residuals = downStage(ops, p.at(`down_blocks.${index}`), h, stage, conditioning);
    h = residuals.at(-1) ?? h;
    downBlocks.push(h);
    downResiduals.push(residuals);
  }
  const midBlock = stages.mid && midStage(ops, p.at("mid_block"), h, stages.mid, conditioning);
  return { downBlocks, downResiduals, midBlock };
}

/**
 * The encoder half of diffusers' `UNet2DConditionModel`: embeddings, down stages and mid stage.
 * As a feature extractor it needs none of the up stages' parameters.
 *
 * @example
 * const { downBlocks } = unetEncoder(ops, scope(ops, params), config, { sample, timestep, encoderHiddenStates });
 */
export function unetEncoder<T>(
  ops: Ops<T>,
  p: Scope<T>,
  config: UNetConfig,
  inputs: UNetEncoderInputs<T>,
): UNetEncoderFeatures<T> {
  return encode(ops, p, config, inputs).features;
}

interface Encoded<T> {
  readonly features: UNetEncoderFeatures<T>;
  /** The last result at the lowest resolution, which the up stages begin with. */
  readonly lowest: T;
  readonly conditioning: UNetConditioning<T>;
}

function encode<T>(ops: Ops<T>, p: Scope<T>, config: UNetConfig, inputs: UNetInputs<T>): Encoded<T> {
  checkUNetInputs("unet", ops, config, inputs);
  checkGuidanceEmbedding(ops, config, inputs);
  const firstChannels = config.block_out_channels[0] ?? 1;
  const conditioning = unetConditioning(ops, p, config, inputs, config.time_embedding_dim ?? 4 * firstChannels);

  const sample = config.center_input_sample ? ops.sub(ops.mul(inputs.sample, 2), 1) : inputs.sample;
  const convIn = convLayer(ops, p.at("conv_in"), sample, firstChannels, { kernel: config.conv_in_kernel });
  const blocks = unetEncoderBlocks(ops, p, convIn, conditioning);

  const { timeEmbedding, addEmbedding } = conditioning;
  const lowest = blocks.midBlock ?? blocks.downBlocks.at(-1) ?? convIn;
  return { features: { timeEmbedding, addEmbedding, convIn, ...blocks }, lowest, conditioning };
}

/**
 * diffusers' `UNet2DConditionModel`, under its parameter names.
 *
 * Gives the prediction `sample` [batch, out_channels, height, width] (noise, velocity or image: the scheduler's
 * configuration says which) and the feature maps on the way.
 * Throws `ShapeError` and `InvalidArgumentError` for inputs that do not fit the configuration.
 *
 * @example
 * const { sample: noise } = unet(ops, scope(ops, params), config, { sample, timestep, encoderHiddenStates });
 */
export function unet<T>(
  ops: Ops<T>,
  p: Scope<T>,
  config: UNetConfig,
  inputs: UNetInputs<T>,
): { readonly sample: T; readonly features: UNetFeatures<T> } {
  const { features, lowest, conditioning } = encode(ops, p, config, inputs);
  const stages = unetStages(config);
  const control = inputs.controlResiduals;

  let skips = [features.convIn, ...features.downResiduals.flat()];
  let h = lowest;
  if (control) {
    if (control.down.length !== skips.length) {
      throw new ShapeError(
        `unet: this configuration has ${skips.length} skip connections, controlResiduals.down has ${control.down.length}. ` +
          `Use a ControlNet that was made for this U-Net.`,
      );
    }
    skips = skips.map((skip, index) => ops.add(skip, control.down[index] as T));
    h = ops.add(h, control.mid);
  }
  const upBlocks: T[] = [];
  for (const [index, stage] of stages.up.entries()) {
    h = upStage(ops, p.at(`up_blocks.${index}`), h, stage, skips, conditioning);
    upBlocks.push(h);
  }
  const convNormOut = groupNormLayer(ops, p.at("conv_norm_out"), h, config.norm_num_groups, config.norm_eps);
  const sample = convLayer(ops, p.at("conv_out"), silu(ops, convNormOut), config.out_channels, {
    kernel: config.conv_out_kernel,
  });
  return { sample, features: { ...features, upBlocks, convNormOut } };
}

/**
 * Feature maps under diffusers' module names: conv_in, time_embedding, down_blocks.0, down_blocks.0.res.1 (the stage's
 * second residual), mid_block, up_blocks.0, conv_norm_out. Feature distillation names its pairs so.
 */
export function namedFeatures<T>(features: UNetEncoderFeatures<T> | UNetFeatures<T>): Record<string, T> {
  const named: Record<string, T> = { conv_in: features.convIn, time_embedding: features.timeEmbedding };
  if (features.addEmbedding !== undefined) named["add_embedding"] = features.addEmbedding;
  features.downBlocks.forEach((block, index) => (named[`down_blocks.${index}`] = block));
  features.downResiduals.forEach((residuals, index) =>
    residuals.forEach((residual, layer) => (named[`down_blocks.${index}.res.${layer}`] = residual)),
  );
  if (features.midBlock !== undefined) named["mid_block"] = features.midBlock;
  if ("upBlocks" in features) {
    features.upBlocks.forEach((block, index) => (named[`up_blocks.${index}`] = block));
    named["conv_norm_out"] = features.convNormOut;
  }
  return named;
}

/** Names, shapes and initialisations of the parameters of `unet`; nothing is computed. */
export function unetParameters(config: UNetConfig): Record<string, ParameterSpec> {
  return declareParameters(
    (ops, p, inputs) => unet(ops, p, config, unetInputs(config, inputs)),
    unetInputSpecs(config),
  );
}

/** Names, shapes and initialisations of the parameters of `unetEncoder`: those of `unet` without the up stages. */
export function unetEncoderParameters(config: UNetConfig): Record<string, ParameterSpec> {
  return declareParameters(
    (ops, p, inputs) => unetEncoder(ops, p, config, unetInputs(config, inputs)),
    unetInputSpecs(config),
  );
}

type InputConfig = UNetEncoderConfig & Partial<Pick<UNetConfig, "time_cond_proj_dim">>;

/** The smallest inputs that halve evenly on every level, to declare parameters with. */
export function unetInputSpecs(config: InputConfig) {
  const side = 2 ** (config.block_out_channels.length - 1);
  const sizes = 6; // SDXL's time ids, see UNetInputs
  const textFeatures =
    (config.projection_class_embeddings_input_dim ?? 0) - sizes * (config.addition_time_embed_dim ?? 0);
  return {
    sample: { shape: [1, config.in_channels, side, side] },
    timestep: { shape: [1] },
    encoderHiddenStates: { shape: [1, 1, config.cross_attention_dim] },
    textEmbeds: { shape: [1, Math.max(textFeatures, 1)] },
    timeIds: { shape: [1, sizes] },
    guidanceEmbedding: { shape: [1, config.time_cond_proj_dim ?? 1] },
  };
}

/** Inputs under the names of `unetInputSpecs`, as `unet` takes them. */
export function unetInputs<T>(
  config: InputConfig,
  inputs: Readonly<Record<keyof ReturnType<typeof unetInputSpecs>, T>>,
): UNetEncoderInputs<T> {
  const { sample, timestep, encoderHiddenStates, textEmbeds, timeIds, guidanceEmbedding } = inputs;
  return {
    sample,
    timestep,
    encoderHiddenStates,
    ...(config.addition_embed_type !== null && { addedConditions: { textEmbeds, timeIds } }),
    ...(config.time_cond_proj_dim != null && { guidanceEmbedding }),
  };
}

/** Throws where the embedding is missing, not used, or does not fit. */
function checkGuidanceEmbedding<T>(ops: Ops<T>, config: UNetConfig, inputs: UNetEncoderInputs<T>): void {
  const { time_cond_proj_dim: features } = config;
  const { guidanceEmbedding, sample } = inputs;
  if ((features === null) !== (guidanceEmbedding === undefined)) {
    throw new InvalidArgumentError(
      `unet: time_cond_proj_dim is ${features}, so guidanceEmbedding must${features === null ? " not" : ""} be given.`,
    );
  }
  if (guidanceEmbedding === undefined) return;
  const batch = sizeAt(ops, sample, 0);
  const shape = ops.shape(guidanceEmbedding);
  if (shape.length === 2 && (shape[0] === batch || shape[0] === 1) && shape[1] === features) return;
  throw new ShapeError(`unet: guidanceEmbedding must be [${batch} or 1, ${features}], got [${shape.join(", ")}].`);
}

/** Throws where inputs do not fit the configuration or each other; `caller` begins the message. */
export function checkUNetInputs<T>(
  caller: string,
  ops: Ops<T>,
  config: UNetEncoderConfig,
  inputs: UNetEncoderInputs<T>,
): void {
  checkFields(caller, "inputs", inputs, ["sample", "timestep"]);
  const batch = sizeAt(ops, inputs.sample, 0);
  const expectShape = (
    name: string,
    tensor: T,
    expected: readonly (number | string)[],
    fits: (shape: Shape) => boolean,
  ): void => {
    const shape = ops.shape(tensor);
    if (shape.length === expected.length && fits(shape)) return;
    throw new ShapeError(`${caller}: ${name} must be [${expected.join(", ")}], got [${shape.join(", ")}].`);
  };
  expectShape("sample", inputs.sample, ["batch", config.in_channels, "height", "width"], ([, channels]) => {
    return channels === config.in_channels;
  });
  expectShape("timestep", inputs.timestep, [`${batch} or 1`], ([count]) => count === batch || count === 1);
  const context = [batch, "tokens", config.cross_attention_dim];
  expectShape("encoderHiddenStates", inputs.encoderHiddenStates, context, ([count, , features]) => {
    return count === batch && features === config.cross_attention_dim;
  });
  if ((config.addition_embed_type === "text_time") !== (inputs.addedConditions !== undefined)) {
    throw new InvalidArgumentError(
      `${caller}: addition_embed_type is ${JSON.stringify(config.addition_embed_type)}, so addedConditions (textEmbeds, timeIds) ` +
        `must${inputs.addedConditions ? " not" : ""} be given.`,
    );
  }
  if (inputs.addedConditions) {
    const { textEmbeds, timeIds } = inputs.addedConditions;
    expectShape("addedConditions.timeIds", timeIds, [batch, "sizes"], ([count]) => count === batch);
    const total = config.projection_class_embeddings_input_dim ?? 0;
    const textFeatures = total - sizeAt(ops, timeIds, 1) * (config.addition_time_embed_dim ?? 0);
    expectShape("addedConditions.textEmbeds", textEmbeds, [batch, textFeatures], ([count, features]) => {
      return count === batch && features === textFeatures;
    });
  }
}

function sizeAt<T>(ops: Ops<T>, x: T, axis: number): number {
  return ops.shape(x)[axis] ?? 1;
}
