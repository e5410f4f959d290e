import { Matrix, SingularValueDecomposition } from "ml-matrix";
import { HostTensor, initialize, type HostParams, type Shape } from "@sdxs/tensor";
import { klEncoderParameters, type AutoencoderKlConfig } from "@sdxs/tiny-vae";
import { blockSize, type LinearCodec } from "./linear-codec.js";

/** Share of a residual branch's initial weights that is kept. Chosen: blocks begin as what leads past them. */
const residualShare = 0.01;

/** The logarithm of the posterior's variance at first: a standard deviation of 0.05. */
const initialLogVariance = -6;

/**
 * Half the distance between two channels of constants that each group of the last norm gets, in standard deviations of the
 * latents. Chosen: the norm divides by what is nearly the same for all pictures, and so keeps their scale.
 */
const reference = 4;

/** Weights whose residual branches hardly add anything, so that what comes in is not drowned by what no one has learned yet. */
export function withSmallResiduals(params: HostParams): HostParams {
  return Object.fromEntries(
    Object.entries(params).map(([name, tensor]) => [
      name,
      /\.resnets\.\d+\.conv2\./.test(name)
        ? new HostTensor(
            tensor.shape,
            (tensor.data as Float32Array).map((value) => value * residualShare),
          )
        : tensor,
    ]),
  );
}

/**
 * Weights of an encoder that begins as a linear codec, to a few percent: what leads past its residual branches gathers 2 x 2
 * pixels into channels three times over, on the second time as the best 32 of 48 sums. Before the last norm and SiLU each
 * latent has a channel of either sign, since silu(x) - silu(-x) = x, among constant channels that fix the norm's scale. All
 * other weights are drawn by `seed`.
 *
 * @param config of four levels with 16, 32, 64 and 128 channels, and norms of 4 groups
 * @param codec of 16 latents
 */
export function linearEncoder(config: AutoencoderKlConfig, codec: LinearCodec, seed: number): HostParams {
  const params: Record<string, HostTensor> = withSmallResiduals(initialize(klEncoderParameters(config), seed));
  const [latents = 0] = codec.bias.shape;
  const set = (layer: string, rows: Rows, bias?: (row: number) => number): void => {
    params[`${layer}.weight`] = withRows(params[`${layer}.weight`]!, rows);
    const old = params[`${layer}.bias`]!;
    const values = Array.from(old.data, (value, row) => (row in rows ? (bias?.(row) ?? 0) : value));
    params[`${layer}.bias`] = HostTensor.from(old.shape, values);
  };

  set("encoder.conv_in", identity(3, 1));
  // Pixel (y, x) of 2 x 2 of colour c: channel 4 c + 2 y + x.
  set(
    "encoder.down_blocks.0.downsamplers.0.conv",
    table(12, (row) => [[row >> 2, (row >> 1) & 1, row & 1, 1]]),
  );

  const { sums, latentsOfSums } = quarters(codec, 32);
  set("encoder.down_blocks.1.resnets.0.conv_shortcut", identity(12, 0));
  set(
    "encoder.down_blocks.1.downsamplers.0.conv",
    table(32, (row) =>
      each([3, 4, 4], ([c = 0, y = 0, x = 0]) => [
        4 * c + 2 * (y & 1) + (x & 1),
        y >> 1,
        x >> 1,
        sums.get(row, 16 * c + 4 * y + x),
      ]),
    ),
  );
  set("encoder.down_blocks.2.resnets.0.conv_shortcut", identity(32, 0));
  set(
    "encoder.down_blocks.2.downsamplers.0.conv",
    table(latents, (row) =>
      each([32, 2, 2], ([sum = 0, y = 0, x = 0]) => [sum, y, x, latentsOfSums.get((2 * y + x) * latents + row, sum)]),
    ),
    (row) => codec.bias.data[row]!,
  );

  const channels = config.block_out_channels.at(-1)!;
  const perGroup = channels / config.norm_num_groups;
  const latentsPerGroup = latents / config.norm_num_groups;
  /** Where a latent stands before the last norm, with this sign. */
  const channelOf = (latent: number, isNegative: boolean): number =>
    perGroup * Math.floor(latent / latentsPerGroup) + 2 * (latent % latentsPerGroup) + (isNegative ? 1 : 0);
  const rows: Record<number, Taps> = table(channels, () => []);
  for (let latent = 0; latent < latents; latent++) {
    for (const isNegative of [false, true]) rows[channelOf(latent, isNegative)] = [[latent, 0, 0, isNegative ? -1 : 1]];
  }
  set("encoder.down_blocks.3.resnets.0.conv_shortcut", rows, (row) =>
    rows[row]!.length > 0 ? 0 : row % 2 === 0 ? reference : -reference,
  );
  const signed = 2 * latentsPerGroup;
  const deviation = Math.sqrt((signed + (perGroup - signed) * reference ** 2) / perGroup);
  set("encoder.conv_out", {
    ...table(latents, (row) => [
      [channelOf(row, false), 1, 1, deviation],
      [channelOf(row, true), 1, 1, -deviation],
    ]),
    ...Object.fromEntries(Array.from({ length: latents }, (_, row) => [latents + row, [] as Taps])),
  });
  set("quant_conv", identity(2 * latents, 0), (row) => (row < latents ? 0 : initialLogVariance));
  return params;
}

/** What a row of a convolution's weight has, where it is not 0: [channel, y, x, value]. */
type Taps = readonly (readonly [channel: number, y: number, x: number, value: number])[];
type Rows = Readonly<Record<number, Taps>>;

const table = (count: number, taps: (row: number) => Taps): Record<number, Taps> =>
  Object.fromEntries(Array.from({ length: count }, (_, row) => [row, taps(row)]));

/** Each channel to the one of the same number, at the kernel's middle. */
const identity = (count: number, middle: number): Rows => table(count, (row) => [[row, middle, middle, 1]]);

function each<Item>(sizes: readonly number[], item: (indices: readonly number[]) => Item): Item[] {
  const [size = 0, ...others] = sizes;
  return Array.from({ length: size }, (_, index) =>
    others.length === 0 ? [item([index])] : each(others, (inner) => item([index, ...inner])),
  ).flat();
}

function withRows({ shape, data }: HostTensor, rows: Rows): HostTensor {
  const [, channels = 0, height = 0, width = 0] = shape satisfies Shape;
  const values = Float32Array.from(data);
  for (const [row, taps] of Object.entries(rows)) {
    values.fill(0, Number(row) * channels * height * width, (Number(row) + 1) * channels * height * width);
    for (const [channel, y, x, value] of taps) {
      values[((Number(row) * channels + channel) * height + y) * width + x] = value;
    }
  }
  return new HostTensor(shape, values);
}

/**
 * Splits a codec of 8 x 8 pixels: `count` sums of 4 x 4 pixels [count, 48], and the latents' shares of these in each quarter of
 * the block [4 latents, count], by the largest singular values.
 */
function quarters(
  { weight, bias }: LinearCodec,
  count: number,
): { readonly sums: Matrix; readonly latentsOfSums: Matrix } {
  const [latents = 0] = bias.shape;
  const half = blockSize / 2;
  const ofQuarters = new Matrix(
    each([2, 2, latents], ([top = 0, left = 0, latent = 0]) =>
      each(
        [3, half, half],
        ([c = 0, y = 0, x = 0]) =>
          weight.data[((latent * 3 + c) * blockSize + top * half + y) * blockSize + left * half + x]!,
      ),
    ),
  );
  const { rightSingularVectors } = new SingularValueDecomposition(ofQuarters);
  const sums = rightSingularVectors.subMatrix(0, rightSingularVectors.rows - 1, 0, count - 1).transpose();
  return { sums, latentsOfSums: ofQuarters.mmul(sums.transpose()) };
}
