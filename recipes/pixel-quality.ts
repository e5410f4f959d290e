import { gaussianSsim, mse } from "@sdxs/losses";
import { HostTensor, type Backend, type Program } from "@sdxs/tensor";
import { mapBatches } from "./rows.js";

/** How near images are to others by their pixels, means over pictures. */
export interface PixelQuality {
  /** Peak signal-to-noise ratio in dB; Infinity for equal pictures. */
  readonly psnr: number;
  /** SSIM under a Gaussian window; 1 for equal pictures. */
  readonly ssim: number;
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
  const compared = await mapBatches(
    backend,
    comparison,
    {},
    { images: clippedImages(images), others: clippedImages(others) },
    16,
  );
  return { psnr: mean(Array.from(compared.mse.data, peakSignalToNoise)), ssim: mean(compared.ssim.data) };
}

const comparison: Program<"images" | "others", "mse" | "ssim"> = (ops, _params, { images, others }) => ({
  mse: mse(ops, images, others),
  ssim: gaussianSsim(ops, images, others, { dataRange: imageRange }),
});

/** PSNR in dB of a mean squared error between images in [-1, 1]: 10 log10(2^2 / error). */
export function peakSignalToNoise(error: number): number {
  return 10 * Math.log10(imageRange ** 2 / error);
}

/** Values of images that are shown. */
export function clippedImages({ shape, data }: HostTensor): HostTensor {
  return HostTensor.from(
    shape,
    Array.from(data, (value) => Math.min(1, Math.max(-1, value))),
  );
}

export function mean(values: ArrayLike<number>): number {
  return Array.from(values).reduce((sum, value) => sum + value, 0) / values.length;
}
