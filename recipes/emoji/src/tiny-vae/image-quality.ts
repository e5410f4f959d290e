import type { Backend, HostTensor } from "@sdxs/tensor";
import { clippedImages, mean, pixelQuality, type PixelQuality } from "../../../pixel-quality.js";
import type { Judge } from "../evaluation/judge.js";

export interface ImageQuality extends PixelQuality {
  /** LPIPS' distance by the judge's features; 0 for equal pictures. */
  readonly perceptualDistance: number;
}

/** The same, and by the features of an independent network. */
export async function imageQuality<D>(
  backend: Backend<D>,
  judge: Pick<Judge, "perceptualDistances">,
  images: HostTensor,
  others: HostTensor,
): Promise<ImageQuality> {
  const distances = await judge.perceptualDistances(clippedImages(images), clippedImages(others));
  return { ...(await pixelQuality(backend, images, others)), perceptualDistance: mean(distances.data) };
}

/** Mean squared error of values relative to the variance of those that they should be. */
export function relativeError(values: HostTensor, expected: HostTensor): number {
  const middle = mean(expected.data);
  let error = 0;
  let variance = 0;
  expected.data.forEach((value, i) => {
    error += (values.data[i]! - value) ** 2;
    variance += (value - middle) ** 2;
  });
  return error / variance;
}
