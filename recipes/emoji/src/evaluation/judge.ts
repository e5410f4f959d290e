/**
 * The independent judge of generated pictures: features of a network that no model of the recipe was trained with or
 * against, nsfwjs' MobileNetV2 (MIT, its weights come with the npm package).
 *
 *   const judge = await loadJudge(backend);
 *   const features = await judge.features(images); // [n, 256]
 *   const distances = await judge.perceptualDistances(images, others); // [n]
 */
import { perceptualDistance } from "@sdxs/losses";
import {
  HostTensor,
  MalformedFileError,
  MissingPackageError,
  ShapeError,
  mapTensors,
  scope,
  type Backend,
  type HostParams,
  type Ops,
  type Program,
  type TensorMap,
} from "@sdxs/tensor";
import { mapBatches } from "../../../rows.js";
import { depthwiseGroup, inputSize, mobileNetV2, mobileNetV2Parameters } from "./mobile-net-v2.js";

export interface Judge {
  /**
   * What the Fréchet distance, precision and recall compare.
   *
   * @param images [n, 3, height, width] in [-1, 1], red first
   * @returns [n, 256]
   */
  features(images: HostTensor): Promise<HostTensor>;
  /**
   * LPIPS' distance without calibration, by the maps of four depths.
   *
   * @param images [n, 3, height, width] in [-1, 1]
   * @param others of the same shape
   * @returns [n]; 0 for equal pictures
   */
  perceptualDistances(images: HostTensor, others: HostTensor): Promise<HostTensor>;
}

/** Chosen: 250 MB of activations. */
const batchSize = 16;

/**
 * Reads the judge's weights from the package nsfwjs.
 *
 * @throws MissingPackageError where it is not installed; ShapeError from its functions for other images.
 */
export async function loadJudge<D>(backend: Backend<D>): Promise<Judge> {
  const weights = await readWeights();
  return {
    features: async (images) => (await mapBatches(backend, pooledFeatures, weights, { images }, batchSize)).features,
    perceptualDistances: async (images, others) =>
      (await mapBatches(backend, featureDistance, weights, { images, others }, batchSize)).distances,
  };
}

/**
 * Blocks 12 and 13, pooled over the positions: 96 + 160 features after 72% and 77% of Keras' layers. Chosen: the last
 * layers know only nsfwjs' five classes, and as many features as this have a covariance of full rank in 800 pictures.
 */
const pooledFeatures: Program<"images", "features"> = (ops, params, { images }) => {
  const maps = judgeMaps(ops, params, images).slice(12);
  return {
    features: ops.concat(
      maps.map((map) => ops.mean(map, { axes: [2, 3] })),
      1,
    ),
  };
};

/** Chosen: the last block of each size from 56 to 7 pixels. */
const distanceBlocks = [2, 5, 12, 13];

const featureDistance: Program<"images" | "others", "distances"> = (ops, params, { images, others }) => {
  const maps = (x: typeof images) => {
    const all = judgeMaps(ops, params, x);
    return distanceBlocks.map((block) => all[block]!);
  };
  return { distances: perceptualDistance(ops, maps(images), maps(others)) };
};

/** The outputs of MobileNetV2's blocks for images [batch, 3, height, width] in [-1, 1], prepared as nsfwjs does. */
function judgeMaps<T>(ops: Ops<T>, params: TensorMap<T>, images: T): T[] {
  const shape = ops.shape(images);
  const [, channels, height = 1, width = 1] = shape;
  if (shape.length !== 4 || channels !== 3) {
    throw new ShapeError(`judge: images must be [batch, 3, height, width], got [${shape.join(", ")}].`);
  }
  const positive = ops.mul(ops.add(images, 1), 0.5); // [0, 1]
  const matrix = (from: number): T => ops.constant(alignedInterpolation(from, inputSize), [inputSize, from]);
  const widened = ops.matmul(positive, matrix(width), { transposeB: true }); // [batch, 3, height, 224]
  return mobileNetV2(ops, scope(ops, params), ops.matmul(matrix(height), widened));
}

/** Linear interpolation of one axis that keeps both end pixels in place: a matrix [to, from]. */
function alignedInterpolation(from: number, to: number): Float32Array<ArrayBuffer> {
  const matrix = new Float32Array(to * from);
  for (let row = 0; row < to; row++) {
    const position = (row * (from - 1)) / (to - 1);
    const before = Math.min(Math.floor(position), from - 1);
    const after = Math.min(before + 1, from - 1);
    matrix[row * from + before]! += 1 - (position - before);
    matrix[row * from + after]! += position - before;
  }
  return matrix;
}

/** The parameters of `mobileNetV2` from nsfwjs' weights. */
async function readWeights(): Promise<HostParams> {
  const stored = await readStoredWeights();
  return mapTensors(mobileNetV2Parameters(), ({ shape }, name) => {
    const [, layer = "", group, kind] = /^(\w+?)(?:\.(\d+))?\.(weight|bias)$/.exec(name) ?? [];
    const { channels, weight, bias } = foldedLayer(stored, layer);
    const first = Number(group ?? 0) * depthwiseGroup;
    const [outputs = 1, inputs = 1, height = 1, width = 1] = shape;
    if (kind === "bias")
      return HostTensor.from(
        shape,
        Array.from({ length: outputs }, (_, i) => bias(first + i)),
      );
    const taps = height * width;
    const values = Array.from({ length: outputs * inputs * taps }, (_, index) => {
      const tap = index % taps;
      const input = Math.floor(index / taps) % inputs;
      const output = Math.floor(index / taps / inputs);
      // Keras stores [height, width, inputs, outputs]; of a convolution of each channel alone [height, width, channels, 1].
      if (group === undefined) return weight((tap * inputs + input) * outputs + output, output);
      return input === output ? weight(tap * channels + first + output, first + output) : 0;
    });
    return HostTensor.from(shape, values);
  });
}

/** Keras' epsilon, as the model file has it for every batch normalisation. */
const batchNormEpsilon = 1e-3;

/** A convolution with the batch normalisation that follows it: (x - mean) * gamma / deviation + beta. */
function foldedLayer(stored: ReadonlyMap<string, Float32Array>, layer: string) {
  const kernel = stored.get(`${layer}/kernel`) ?? stored.get(`${layer}/depthwise_kernel`);
  const norm = layer === "Conv1" ? "bn_Conv1" : `${layer}_BN`;
  const [gamma, beta, mean, variance] = ["gamma", "beta", "moving_mean", "moving_variance"].map((part) =>
    stored.get(`${norm}/${part}`),
  );
  if (!kernel || !gamma || !beta || !mean || !variance) {
    throw new MalformedFileError(`loadJudge: nsfwjs' model lacks weights of "${layer}". Install nsfwjs 4.3.0.`);
  }
  const scale = (channel: number): number => gamma[channel]! / Math.sqrt(variance[channel]! + batchNormEpsilon);
  return {
    channels: gamma.length,
    weight: (index: number, channel: number): number => kernel[index]! * scale(channel),
    bias: (channel: number): number => beta[channel]! - mean[channel]! * scale(channel),
  };
}

/** nsfwjs' weights by Keras' names: bytes, each with a scale and an offset. */
async function readStoredWeights(): Promise<Map<string, Float32Array>> {
  const { MobileNetV2Model } = await importNsfwjs();
  const { weightsManifest } = (await MobileNetV2Model.modelJson()).default;
  const shards = await Promise.all(MobileNetV2Model.weightBundles.map(async (bundle) => (await bundle()).default));
  const bytes = Buffer.concat(shards.map((shard) => Buffer.from(shard, "base64")));
  const stored = new Map<string, Float32Array>();
  let offset = 0;
  for (const { name, shape, quantization } of weightsManifest.flatMap(({ weights }) => weights)) {
    if (quantization?.dtype !== "uint8" || quantization.scale === undefined || quantization.min === undefined) {
      throw new MalformedFileError(`loadJudge: "${name}" must be quantised to bytes. Install nsfwjs 4.3.0.`);
    }
    const { scale, min } = quantization;
    const size = shape.reduce((product, length) => product * length, 1);
    stored.set(
      name,
      Float32Array.from(bytes.subarray(offset, offset + size), (byte) => byte * scale + min),
    );
    offset += size;
  }
  return stored;
}

async function importNsfwjs() {
  try {
    return await import("nsfwjs/models/mobilenet_v2");
  } catch (cause) {
    throw new MissingPackageError("nsfwjs", "The evaluation", { cause });
  }
}
