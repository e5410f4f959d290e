import {
  InvalidArgumentError,
  convLayer,
  groupNormLayer,
  type ConvLayerOptions,
  type Ops,
  type Scope,
} from "@sdxs/tensor";

export interface PatchDiscriminatorOptions {
  /** Channels of the convolutions, each of which halves the resolution; all but the first divisible by 8. Default [64, 128, 256]. */
  readonly channels?: readonly number[];
}

export interface ProjectedDiscriminatorOptions {
  /** Channels of each head, divisible by 8. Default 64 (chosen: small; StyleGAN-T keeps those of the maps, 384). */
  readonly channels?: number;
}

/** Number of groups in which channels are normalised, each sample separately. */
const GROUPS = 8;

/** Slope of 0.2 below 0, as in PatchGAN and StyleGAN-T. */
function leakyRelu<T>(ops: Ops<T>, x: T): T {
  return ops.maximum(x, ops.mul(x, 0.2));
}

/** Convolution "conv", group norm "norm", activation: x [batch, in, height, width] gives [batch, channels, ...]. */
function normalizedLayer<T>(ops: Ops<T>, p: Scope<T>, x: T, channels: number, options: ConvLayerOptions): T {
  if (channels % GROUPS !== 0) {
    throw new InvalidArgumentError(
      `A discriminator's channels are normalised in ${GROUPS} groups and must be divisible by ${GROUPS}, got ${channels}.`,
    );
  }
  const h = convLayer(ops, p.at("conv"), x, channels, options);
  return leakyRelu(ops, groupNormLayer(ops, p.at("norm"), h, GROUPS, 1e-5)); // PyTorch's default epsilon
}

/**
 * A small PatchGAN (https://arxiv.org/abs/1611.07004, Section 3.2.2): convolutions of 4 x 4 and stride 2, whose logits each
 * judge one patch of the image, 38 x 38 pixels by the default channels. Group norms stand in for its batch norms, so that
 * samples do not mix.
 *
 * @param images [batch, channels, height, width], any range, at least 2 ** options.channels.length pixels wide and high
 * @returns logits [batch, 1, h, w], smaller by that factor, rounded down; high for real images
 *
 * Throws `InvalidArgumentError` where channels cannot be grouped.
 *
 * @example
 * const logits = patchDiscriminator(ops, scope(ops, params, "discriminator"), images);
 */
export function patchDiscriminator<T>(ops: Ops<T>, p: Scope<T>, images: T, options: PatchDiscriminatorOptions = {}): T {
  const halving = { kernel: 4, stride: 2, padding: 1 };
  let h = images;
  for (const [index, channels] of (options.channels ?? [64, 128, 256]).entries()) {
    const layer = p.at("layers").at(index);
    h =
      index === 0
        ? leakyRelu(ops, convLayer(ops, layer.at("conv"), h, channels, halving))
        : normalizedLayer(ops, layer, h, channels, halving);
  }
  return convLayer(ops, p.at("conv_out"), h, 1);
}

/**
 * The heads of a projected discriminator (https://arxiv.org/abs/2111.01007), one for each map of a frozen network's features,
 * as in StyleGAN-T (https://arxiv.org/abs/2301.09515, Section 3.2) and ADD: a 1 x 1 convolution, a residual one, a logit for
 * each position. Unlike theirs the heads convolve images, 3 x 3, instead of sequences of tokens, normalise in groups, so that
 * samples do not mix, and have no spectral normalisation: R1 keeps them smooth.
 *
 * @param maps each [batch, channels, height, width], any range
 * @returns logits [batch, n] of all maps' positions, map by map; high for real images
 *
 * Throws `InvalidArgumentError` where there is no map or channels cannot be grouped.
 *
 * @example
 * const maps = vgg16Features(ops, scope(ops, params, "features"), images);
 * const logits = projectedDiscriminator(ops, scope(ops, params, "discriminator"), maps);
 */
export function projectedDiscriminator<T>(
  ops: Ops<T>,
  p: Scope<T>,
  maps: readonly T[],
  options: ProjectedDiscriminatorOptions = {},
): T {
  const { channels = 64 } = options;
  if (maps.length === 0)
    throw new InvalidArgumentError("projectedDiscriminator: expected at least one feature map, got none.");
  const logits = maps.map((map, index) => {
    const head = p.at("heads").at(index);
    const projected = normalizedLayer(ops, head.at("project"), map, channels, { kernel: 1 });
    const residual = normalizedLayer(ops, head.at("residual"), projected, channels, {});
    const h = ops.mul(ops.add(projected, residual), Math.SQRT1_2); // keeps the variance, as in StyleGAN-T
    return ops.reshape(convLayer(ops, head.at("logits"), h, 1, { kernel: 1 }), [ops.shape(map)[0] ?? 1, -1]);
  });
  return ops.concat(logits, 1);
}
