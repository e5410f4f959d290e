import { declareParameters, type Ops, type ParameterSpec, type Scope } from "@sdxs/tensor";
import { normalizedImages } from "./normalized-images.js";
import { sequentialFeatures, type CnnLayer } from "./sequential-cnn.js";

/** The ReLU after a block's n-th convolution. */
export type Vgg16Layer = `relu${1 | 2}_${1 | 2}` | `relu${3 | 4 | 5}_${1 | 2 | 3}`;

export interface Vgg16Options {
  /** Whose outputs are wanted. Default the last of each block, as in LPIPS and DISTS. */
  readonly layers?: readonly Vgg16Layer[];
  /** Between blocks: "max" as trained (LPIPS), "l2" as in DISTS. Default "max". */
  readonly pooling?: "max" | "l2";
}

/** Channels of the convolutions of each block: configuration D of arXiv:1409.1556, Table 1. */
const BLOCKS = [
  [64, 64],
  [128, 128],
  [256, 256, 256],
  [512, 512, 512],
  [512, 512, 512],
];

const LAST_OF_BLOCKS: readonly Vgg16Layer[] = ["relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3"];

/**
 * Features of VGG16 (arXiv:1409.1556) under torchvision's parameter names: "features.0.weight", ..., "features.28.bias".
 * Parameters after the last wanted layer are not needed.
 *
 * @param images [batch, 3, height, width] in [-1, 1], red first; brought to ImageNet's mean and deviation here
 * @returns one map [batch, channels, h, w] for each of `layers`; block n has sizes 2^(n-1) times smaller, rounded down
 *
 * Throws `ShapeError` for images of other than three channels or too small for the layers.
 *
 * @example
 * const features = (x: T) => vgg16Features(ops, scope(ops, params), x);
 * const loss = featureMatchingLoss(ops, features(sample), features(target));
 */
export function vgg16Features<T>(ops: Ops<T>, p: Scope<T>, images: T, options: Vgg16Options = {}): T[] {
  const { layers: wanted = LAST_OF_BLOCKS, pooling = "max" } = options;
  const layers: CnnLayer[] = [];
  const places: Partial<Record<string, number>> = {};
  for (const [block, widths] of BLOCKS.entries()) {
    if (block > 0) layers.push({ type: `${pooling}-pool` });
    for (const [index, channels] of widths.entries()) {
      layers.push({ type: "convolution", channels }, { type: "relu" });
      places[`relu${block + 1}_${index + 1}`] = layers.length - 1;
    }
  }
  const outputs = wanted.map((name) => places[name] ?? -1);
  return sequentialFeatures(ops, p.at("features"), normalizedImages(ops, images), layers, outputs);
}

/** Names, shapes and initialisations of the parameters of `vgg16Features`; nothing is computed. */
export function vgg16Parameters(options: Vgg16Options = {}): Record<string, ParameterSpec> {
  return declareParameters((ops, p, { images }) => vgg16Features(ops, p, images, options), {
    images: { shape: [1, 3, 16, 16] },
  });
}
