import {
  InvalidArgumentError,
  ShapeError,
  convLayer,
  declareParameters,
  silu,
  zeros,
  type Operand,
  type Ops,
  type ParameterSpec,
  type Scope,
} from "@sdxs/tensor";
import {
  checkUNetInputs,
  unetConditioning,
  unetEncoderBlocks,
  unetInputSpecs,
  unetInputs,
  type ControlResiduals,
  type UNetEncoderInputs,
} from "@sdxs/tiny-unet";
import type { ControlNetConfig } from "./controlnet-config.js";

export interface ControlNetInputs<T> extends Omit<UNetEncoderInputs<T>, "guidanceEmbedding"> {
  /**
   * The image that guides, edges or depth for example: [batch or 1, conditioning_channels, 8 * height, 8 * width] for
   * latents of height and width, RGB from 0 to 1. Not 8 but 4 or 16 where `conditioning_embedding_out_channels` has one
   * number less or more than the usual four.
   */
  readonly condition: T;
}

export interface ControlNetOptions<T> {
  /**
   * How strongly the condition guides: a number, or a tensor [1] or [batch, 1, 1, 1], which a compiled program may take
   * as an input and so change from run to run. Default 1.
   */
  readonly conditioningScale?: Operand<T>;
  /**
   * For guidance by the condition without a prompt: residuals weigh from 0.1 at the highest resolution to 1 at the lowest.
   * With classifier-free guidance, run the conditional half alone and extend the result by `conditionalHalfOnly`.
   * Default false.
   */
  readonly guessMode?: boolean;
}

/** ControlNetConditioningEmbedding: the condition at the latents' resolution [batch or 1, channels, height, width]. */
function conditionEmbedding<T>(ops: Ops<T>, p: Scope<T>, config: ControlNetConfig, condition: T): T {
  const [first = 1, ...rest] = config.conditioning_embedding_out_channels;
  let h = silu(ops, convLayer(ops, p.at("conv_in"), condition, first));
  let channels = first;
  for (const [index, next] of rest.entries()) {
    h = silu(ops, convLayer(ops, p.at(`blocks.${2 * index}`), h, channels));
    h = silu(ops, convLayer(ops, p.at(`blocks.${2 * index + 1}`), h, next, { stride: 2 }));
    channels = next;
  }
  return convLayer(ops, p.at("conv_out"), h, config.block_out_channels[0] ?? 1, { init: zeros });
}

/**
 * The ControlNet paper's zero convolution, Section 3.1: 1x1, weight and bias 0 at first, so that a new ControlNet leaves
 * its U-Net as it is.
 */
function zeroConvolution<T>(ops: Ops<T>, p: Scope<T>, x: T): T {
  return convLayer(ops, p, x, ops.shape(x)[1] ?? 1, { kernel: 1, init: zeros });
}

/**
 * diffusers' `ControlNetModel`, under its parameter names: a U-Net's encoder that also sees an image. Its outputs, one
 * for each skip connection and one for the lowest resolution, are `unet`'s `controlResiduals`.
 *
 * They have the shapes of what they are added to, [batch, channels, 1, 1] under `global_pool_conditions`.
 * Throws `ShapeError` and `InvalidArgumentError` for inputs that do not fit the configuration.
 *
 * From "Adding Conditional Control to Text-to-Image Diffusion Models", https://arxiv.org/abs/2302.05543.
 *
 * @example
 * const controlResiduals = controlNet(ops, p.at("controlnet"), config, { ...inputs, condition });
 * const { sample: noise } = unet(ops, p.at("unet"), unetConfig, { ...inputs, controlResiduals });
 */
export function controlNet<T>(
  ops: Ops<T>,
  p: Scope<T>,
  config: ControlNetConfig,
  inputs: ControlNetInputs<T>,
  options: ControlNetOptions<T> = {},
): ControlResiduals<T> {
  const { conditioningScale = 1, guessMode = false } = options;
  checkUNetInputs("controlNet", ops, config, inputs);
  checkCondition(ops, config, inputs);
  checkScale(ops, inputs.sample, conditioningScale);
  const channels = config.block_out_channels[0] ?? 1;

  const conditioning = unetConditioning(ops, p, config, inputs, 4 * channels);
  const order = config.controlnet_conditioning_channel_order;
  const condition = order === "rgb" ? inputs.condition : reverseChannels(ops, inputs.condition);
  const embedded = conditionEmbedding(ops, p.at("controlnet_cond_embedding"), config, condition);
  const sum = ops.add(convLayer(ops, p.at("conv_in"), inputs.sample, channels), embedded);
  const { downResiduals, midBlock } = unetEncoderBlocks(ops, p, sum, conditioning);

  const down = [sum, ...downResiduals.flat()].map((residual, index) =>
    zeroConvolution(ops, p.at(`controlnet_down_blocks.${index}`), residual),
  );
  const mid = zeroConvolution(ops, p.at("controlnet_mid_block"), midBlock as T); // mid_block_type is never null

  const scaled = (residual: T, index: number): T => {
    const weight = guessMode && !config.global_pool_conditions ? 10 ** (index / down.length - 1) : 1;
    const scale = weight === 1 ? conditioningScale : ops.mul(conditioningScale, weight);
    const result = scale === 1 ? residual : ops.mul(residual, scale);
    return config.global_pool_conditions ? ops.mean(result, { axes: [2, 3], keepDims: true }) : result;
  };
  return { down: down.map(scaled), mid: scaled(mid, down.length) };
}

/**
 * The residuals of several ControlNets for one U-Net together: their sum, as in diffusers' `MultiControlNetModel`.
 * Each weighs by its own `conditioningScale`. Throws `InvalidArgumentError` for none, `ShapeError` for different numbers.
 *
 * @example
 * const edges = controlNet(ops, p.at("edges"), config, { ...inputs, condition: canny }, { conditioningScale: 0.8 });
 * const depth = controlNet(ops, p.at("depth"), config, { ...inputs, condition: map }, { conditioningScale: 0.5 });
 * const { sample: noise } = unet(ops, p.at("unet"), unetConfig, {
 *   ...inputs,
 *   controlResiduals: combineResiduals(ops, [edges, depth]),
 * });
 */
export function combineResiduals<T>(ops: Ops<T>, residuals: readonly ControlResiduals<T>[]): ControlResiduals<T> {
  const [first, ...rest] = residuals;
  if (first === undefined) {
    throw new InvalidArgumentError("combineResiduals: expected at least one ControlNet's residuals, got none.");
  }
  return rest.reduce((sum, { down, mid }) => {
    if (down.length !== sum.down.length) {
      throw new ShapeError(
        `combineResiduals: the ControlNets must have the same number of residuals, got ${sum.down.length} and ` +
          `${down.length}. Use ControlNets that were made for the same U-Net.`,
      );
    }
    return { down: sum.down.map((residual, index) => ops.add(residual, down[index] as T)), mid: ops.add(sum.mid, mid) };
  }, first);
}

/**
 * Residuals [batch, ...] of the conditional half for a U-Net that runs both halves of classifier-free guidance at once,
 * unconditional first: [2 * batch, ...] with zeros for the unconditional half.
 *
 * diffusers' pipelines do so in guess mode, and always for a ControlNet with `global_pool_conditions`.
 */
export function conditionalHalfOnly<T>(ops: Ops<T>, residuals: ControlResiduals<T>): ControlResiduals<T> {
  const extended = (residual: T): T => {
    const [batch = 1, ...rest] = ops.shape(residual);
    return ops.pad(residual, [[batch, 0], ...rest.map(() => [0, 0] as const)]);
  };
  return { down: residuals.down.map(extended), mid: extended(residuals.mid) };
}

/** Names, shapes and initialisations of the parameters of `controlNet`; nothing is computed. */
export function controlNetParameters(config: ControlNetConfig): Record<string, ParameterSpec> {
  const specs = unetInputSpecs(config);
  const [batch = 1, , height = 1, width = 1] = specs.sample.shape;
  const factor = conditionFactor(config);
  const condition = { shape: [batch, config.conditioning_channels, factor * height, factor * width] };
  return declareParameters(
    (ops, p, inputs) => controlNet(ops, p, config, { ...unetInputs(config, inputs), condition: inputs.condition }),
    { ...specs, condition },
  );
}

/** How many times the latents' height and width the condition has. */
function conditionFactor(config: ControlNetConfig): number {
  return 2 ** (config.conditioning_embedding_out_channels.length - 1);
}

function reverseChannels<T>(ops: Ops<T>, image: T): T {
  const channels = Array.from({ length: ops.shape(image)[1] ?? 1 }, (_, index) => ops.slice(image, 1, index, 1));
  return ops.concat(channels.reverse(), 1);
}

function checkCondition<T>(ops: Ops<T>, config: ControlNetConfig, { sample, condition }: ControlNetInputs<T>): void {
  const [batch = 1, , height = 1, width = 1] = ops.shape(sample);
  const shape = ops.shape(condition);
  const [count = 1, channels = 1, conditionHeight = 1, conditionWidth = 1] = shape;
  const factor = conditionFactor(config);
  const fits =
    shape.length === 4 &&
    (count === batch || count === 1) &&
    channels === config.conditioning_channels &&
    // Strided convolutions round up.
    Math.ceil(conditionHeight / factor) === height &&
    Math.ceil(conditionWidth / factor) === width;
  if (fits) return;
  const expected = [`${batch} or 1`, config.conditioning_channels, factor * height, factor * width];
  throw new ShapeError(
    `controlNet: condition must be [${expected.join(", ")}], ${factor} times the latents' height and width, got ` +
      `[${shape.join(", ")}].`,
  );
}

function checkScale<T>(ops: Ops<T>, sample: T, scale: Operand<T>): void {
  if (typeof scale === "number") return;
  const batch = ops.shape(sample)[0] ?? 1;
  const shape = ops.shape(scale);
  if (shape.every((size) => size === 1) && shape.length <= 4) return;
  if (shape.join() === [batch, 1, 1, 1].join()) return;
  throw new ShapeError(
    `controlNet: conditioningScale must be a number, [1] or [${batch}, 1, 1, 1], got [${shape.join(", ")}].`,
  );
}
