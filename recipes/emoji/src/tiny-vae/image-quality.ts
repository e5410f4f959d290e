import { gaussianSsim, mse } from "@sdxs/losses";
import { HostTensor, type Backend, type Program } from "@sdxs/tensor";
import { mapBatches } from "../../../rows.js";
import type { Judge } from "../evaluation/judge.js";

/** How near images are to others by their pixels, means over pictures. */
export interface PixelQuality {
  /** Peak signal-to-noise ratio in dB; Infinity for equal pictures. */
  readonly psnr: number;
  /** SSIM under a Gaussian window; 1 for equal pictures. */
  readonly ssim: number;
}

export interface ImageQuality extends PixelQuality {
  /** LPIPS' distance by the judge's features; 0 for equal pictures. */
  readonly perceptualDistance: number;
}

/** Largest minus smallest value of images in [-1, 1]. */
const imageRange = 2;

/**
 * Compares images [pictures, 3, height, width] in [-1, 1] with others, picture by picture. Values beyond are clipped, as
 * wherever pictures are shown.
 */
export async function pixelQuality<D>(
  backend: Backend<D>,
  images: HostTensor,
  others: HostTensor,
): Promise<PixelQuality> {
  const compared = await mapBatches(backend, comparison, {}, { images: clipped(images), others: clipped(others) }, 16);
  return { psnr: mean(Array.from(compared.mse.data, peakSignalToNoise)), ssim: mean(compared.ssim.data) };
}

/** The same, and by the features of an independent network. */
export async function imageQuality<D>(
  backend: Backend<D>,
  judge: Pick<Judge, "perceptualDistances">,
  images: HostTensor,
  others: HostTensor,
): Promise<ImageQuality> {
  const distances = await judge.perceptualDistances(clipped(images), clipped(others));
  return { ...(await pixelQuality(backend, images, others)), perceptualDistance: mean(distances.data) };
}

const comparison: Program<"images" | "others", "mse" | "ssim"> = (ops, _params, { images, others }) => ({
  mse: mse(ops, images, others),
  ssim: gaussianSsim(ops, images, others, { dataRange: imageRange }),
});

/** PSNR in dB of a mean squared error between images in [-1, 1]: 10 log10(2^2 / error). */
export function peakSignalToNoise(error: number): number {
  return 10 * Math.log10(imageRange ** 2 / error);
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

function clipped({ shape, data }: HostTensor): HostTensor {
  return HostTensor.from(
    shape,
    Array.from(data, (value) => Math.min(1, Math.max(-1, value))),
  );
}

function mean(values: ArrayLike<number>): number {
  return Array.from(values).reduce((sum, value) => sum + value, 0) / values.length;
}
