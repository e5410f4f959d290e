import { toRgba } from "@sdxs/runtime";
import type { HostTensor } from "@sdxs/tensor";
import sharp from "sharp";

/** Images [images, 3, height, width] in [-1, 1] as PNG files. */
export function toPngs(images: HostTensor): Promise<Buffer[]> {
  return Promise.all(
    toRgba(images).map(({ data, width, height }) =>
      sharp(data, { raw: { width, height, channels: 4 } })
        .removeAlpha()
        .png()
        .toBuffer(),
    ),
  );
}
