import { InvalidArgumentError, ShapeError, convLayer, type ConvLayerOptions, type Ops, type Scope } from "@sdxs/tensor";
import { l2Pool } from "./l2-pool.js";

/** A convolution as in `convLayer`: 3 x 3, padded so that sizes stay, unless it says otherwise. */
export interface CnnConvolution extends ConvLayerOptions {
  readonly type: "convolution";
  readonly channels: number;
}

/** Pooling halves the image: max and average drop an odd last row or column as PyTorch does, L2 is `l2Pool`. */
export type CnnLayer = CnnConvolution | { readonly type: "relu" | "max-pool" | "average-pool" | "l2-pool" };

/**
 * Features of a plain sequence of layers. Parameters are named as in PyTorch's `nn.Sequential`: "0.weight", "0.bias", ...
 * by the layer's place in the list.
 *
 * @param x [batch, channels, height, width], any range
 * @param layers the network; what comes after the last output is left out
 * @param outputs places of the layers whose results are wanted
 * @returns one map [batch, channels, h, w] for each of `outputs`
 *
 * Throws `InvalidArgumentError` where there is no such layer, `ShapeError` where nothing is left to pool.
 *
 * @example
 * const layers = [{ type: "convolution", channels: 8 }, { type: "relu" }, { type: "max-pool" }] as const;
 * const [edges, pooled] = sequentialFeatures(ops, scope(ops, params), images, layers, [1, 2]);
 */
export function sequentialFeatures<T>(
  ops: Ops<T>,
  p: Scope<T>,
  x: T,
  layers: readonly CnnLayer[],
  outputs: readonly number[],
): T[] {
  const unknown = outputs.find((output) => layers[output] === undefined);
  if (outputs.length === 0 || unknown !== undefined) {
    throw new InvalidArgumentError(
      `sequentialFeatures: outputs must be places of layers, 0 to ${layers.length - 1}, at least one; got ${unknown ?? "none"}.`,
    );
  }
  const results: T[] = [];
  for (const [place, layer] of layers.slice(0, Math.max(...outputs) + 1).entries()) {
    results.push(applyLayer(ops, p.at(place), results.at(-1) ?? x, layer));
  }
  return outputs.map((output) => results[output]!);
}

function applyLayer<T>(ops: Ops<T>, p: Scope<T>, x: T, layer: CnnLayer): T {
  switch (layer.type) {
    case "convolution":
      return convLayer(ops, p, x, layer.channels, layer);
    case "relu":
      return ops.relu(x);
    case "max-pool":
      return ops.maxPool2d(evenSized(ops, x), 2);
    case "average-pool":
      return ops.avgPool2d(evenSized(ops, x), 2);
    case "l2-pool":
      return l2Pool(ops, x);
  }
}

/** [batch, channels, height, width] without an odd last row or column. */
function evenSized<T>(ops: Ops<T>, x: T): T {
  return [2, 3].reduce((image, axis) => {
    const size = ops.shape(image)[axis]!;
    if (size < 2) {
      throw new ShapeError(
        `sequentialFeatures: nothing is left to pool of [${ops.shape(x).join(", ")}]. ` +
          `Give larger images or take earlier outputs.`,
      );
    }
    return size % 2 === 0 ? image : ops.slice(image, axis, 0, size - 1);
  }, x);
}
