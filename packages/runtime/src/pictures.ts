import { ShapeError, sizeOf, type HostTensor } from "@sdxs/tensor";

/** What `ImageData`, sharp and canvases take. */
export interface RgbaImage {
  readonly width: number;
  readonly height: number;
  /** height * width * 4 bytes: red, green, blue, 255. */
  readonly data: Uint8ClampedArray<ArrayBuffer>;
}

/**
 * Images as bytes, row by row: for `new ImageData(data, width)` in the browser, or
 * `sharp(data, { raw: { width, height, channels: 4 } })` in Node.
 *
 * @param images [images, 3, height, width], red first, in [-1, 1]; what lies outside is clipped
 *
 * Throws `ShapeError` for other shapes.
 *
 * @example
 * const [picture] = toRgba(images);
 * context.putImageData(new ImageData(picture.data, picture.width), 0, 0);
 */
export function toRgba(images: HostTensor): RgbaImage[] {
  const [count = 0, channels, height = 0, width = 0] = images.shape;
  if (images.shape.length !== 4 || channels !== 3) {
    throw new ShapeError(`toRgba: expected images [images, 3, height, width], got [${images.shape.join(", ")}].`);
  }
  const area = sizeOf([height, width]);
  return Array.from({ length: count }, (_, image) => {
    const data = new Uint8ClampedArray(4 * area).fill(255);
    for (let channel = 0; channel < 3; channel++) {
      const plane = images.data.subarray((3 * image + channel) * area, (3 * image + channel + 1) * area);
      for (let at = 0; at < area; at++) data[4 * at + channel] = (plane[at]! + 1) * 127.5; // rounded and clipped
    }
    return { width, height, data };
  });
}

/**
 * Images for canvases and textures, in browsers and their workers.
 *
 * Throws `ShapeError` as `toRgba`.
 *
 * @example
 * const [bitmap] = await toImageBitmaps(images);
 * context.drawImage(bitmap, 0, 0);
 */
export async function toImageBitmaps(images: HostTensor): Promise<ImageBitmap[]> {
  return Promise.all(
    toRgba(images).map(({ data, width, height }) => createImageBitmap(new ImageData(data, width, height))),
  );
}
