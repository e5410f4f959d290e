import { InvalidArgumentError } from "@sdxs/tensor";
import type { TextToImageComponents } from "../checkpoints/components.js";

/** In pixels. */
export interface PictureSize {
  readonly width: number;
  readonly height: number;
}

type Sized = Pick<TextToImageComponents, "unet" | "vae">;

/** Image pixels to each side of a latent. */
export function pixelsPerLatent({ vae }: Pick<TextToImageComponents, "vae">): number {
  if (vae.className === "AutoencoderKL") return 2 ** (vae.config.block_out_channels.length - 1);
  return vae.config.upsampling_scaling_factor ** (vae.config.decoder_block_out_channels.length - 1);
}

/** The size of the pictures that the U-Net was trained on; undefined where its configuration has no "sample_size". */
export function trainedSize(components: Sized): PictureSize | undefined {
  const sizes = [components.unet.config.sample_size ?? []].flat();
  const [height, width] = [sizes[0], sizes.at(-1)];
  if (height === undefined || width === undefined) return undefined;
  const factor = pixelsPerLatent(components);
  return { width: width * factor, height: height * factor };
}

/** The largest size in whole latents within a picture's, which diffusers takes for a picture to begin with. */
export function wholeLatents(components: Pick<Sized, "vae">, { width, height }: PictureSize): PictureSize {
  const factor = pixelsPerLatent(components);
  const whole = (side: number): number => Math.max(1, Math.floor(side / factor)) * factor;
  return { width: whole(width), height: whole(height) };
}

/**
 * The size for a picture of the same proportions with about as many pixels as the U-Net was trained on, in whole latents:
 * networks draw other sizes worse, and larger ones take more time and memory, by the square of their pixels.
 *
 * Throws `InvalidArgumentError` where the U-Net's configuration tells no size.
 *
 * @example
 * const photo = await readPicture("photo.jpg"); // of 1000 x 1300 pixels
 * const size = fittingSize(components, { width: photo.shape[3], height: photo.shape[2] }); // for 512 x 512: 448 x 584
 * const { images } = await pipeline.generate("a watercolour", { image: photo, ...size });
 */
export function fittingSize(components: Sized, { width, height }: PictureSize): PictureSize {
  const trained = trainedSize(components);
  if (trained === undefined) {
    throw new InvalidArgumentError(
      `fittingSize: the U-Net's configuration has no "sample_size". Choose width and height in pixels.`,
    );
  }
  const factor = pixelsPerLatent(components);
  const scale = Math.sqrt((trained.width * trained.height) / (width * height));
  const whole = (side: number): number => Math.max(1, Math.round((side * scale) / factor)) * factor;
  return { width: whole(width), height: whole(height) };
}
