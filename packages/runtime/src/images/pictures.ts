import { HostTensor, InvalidArgumentError, ShapeError, sizeOf, type PlatformClass } from "@sdxs/tensor";

/** What `ImageData`, sharp and canvases take. */
export interface RgbaImage {
  readonly width: number;
  readonly height: number;
  /** height * width * 4 bytes: red, green, blue and opacity, which is 255 in what is drawn. */
  readonly data: Uint8ClampedArray<ArrayBuffer>;
}

/**
 * Images as bytes, row by row: for `new ImageData(data, width)` in the browser, or
 * `sharp(data, { raw: { width, height, channels: 4 } })` in Node.
 *
 * @param images [images, 3, height, width], red first, in [-1, 1]; values outside are clipped
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
 * A picture's bytes, as `context.getImageData` and raw pixels of sharp have them, as what `GenerateOptions.image` takes. Opacity
 * is blended with white.
 *
 * @returns [1, 3, height, width], red first, in [-1, 1]
 *
 * Throws `InvalidArgumentError` where there are not 4 bytes for each pixel.
 *
 * @example
 * const image = fromRgba(context.getImageData(0, 0, 512, 512));
 */
export function fromRgba({
  width,
  height,
  data,
}: Omit<RgbaImage, "data"> & { readonly data: ArrayLike<number> }): HostTensor {
  if (data.length !== 4 * width * height) {
    throw new InvalidArgumentError(
      `fromRgba: expected ${width} * ${height} * 4 bytes, red, green, blue and opacity of each pixel; got ${data.length}.`,
    );
  }
  return fromSamples(data, { width, height, channels: 4, greatest: 255 });
}

/** An `ImageBitmap`. */
export type Bitmap = PlatformClass<"ImageBitmap", { readonly width: number; readonly height: number; close(): void }>;

/** What browsers make an `ImageBitmap` of, an `ImageBitmapSource`. */
export type BitmapSource = typeof globalThis extends {
  createImageBitmap: (source: infer Source, ...rest: never[]) => unknown;
}
  ? Source
  : object;

/**
 * Images for canvases and textures, in browsers and their workers.
 *
 * Throws `ShapeError` as `toRgba`.
 *
 * @example
 * const [bitmap] = await toImageBitmaps(images);
 * context.drawImage(bitmap, 0, 0);
 */
export async function toImageBitmaps(images: HostTensor): Promise<Bitmap[]> {
  return Promise.all(
    toRgba(images).map(({ data, width, height }) => createImageBitmap(new ImageData(data, width, height))),
  );
}

/**
 * A picture as a person sees it, from whatever the browser can draw: a file (`Blob`), an `img`, a video's frame, a canvas; in
 * browsers and their workers. Cameras' orientation and colour profiles are followed, opacity is blended with white.
 *
 * @returns [1, 3, height, width], red first, in [-1, 1]
 *
 * Throws `InvalidArgumentError` for what the browser cannot draw.
 *
 * @example
 * const image = resizePicture(await fromImageSource(input.files[0]), { width: 512, height: 512 });
 */
export async function fromImageSource(source: BitmapSource): Promise<HostTensor> {
  const bitmap = await createImageBitmap(source).catch((cause: unknown) => {
    throw new InvalidArgumentError(
      `fromImageSource: the browser cannot draw this: ${String(cause)}. Give a picture's file, or what a canvas can draw.`,
      { cause },
    );
  });
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d")!;
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return fromRgba(context.getImageData(0, 0, width, height));
}

interface Samples {
  readonly width: number;
  readonly height: number;
  /** 1 or 2: grey; 3 or 4: red, green and blue; the last of 2 and 4 is the opacity. */
  readonly channels: number;
  /** The value of white, and of full opacity; that of black is 0. */
  readonly greatest: number;
  /** The grey or the colour that is fully transparent, if any. */
  readonly transparent?: ArrayLike<number> | undefined;
}

/** Values pixel by pixel as [1, 3, height, width] in [-1, 1], blended with white. */
export function fromSamples(
  values: ArrayLike<number>,
  { width, height, channels, greatest, transparent }: Samples,
): HostTensor {
  const area = width * height;
  const colours = channels < 3 ? 1 : 3;
  const image = HostTensor.filled([1, 3, height, width], 1);
  for (let at = 0; at < area; at++) {
    const first = channels * at;
    if (transparent !== undefined && isColour(values, first, transparent)) continue;
    const opacity = channels === colours ? 1 : values[first + colours]! / greatest;
    for (let channel = 0; channel < 3; channel++) {
      const value = values[first + (colours === 1 ? 0 : channel)]! / greatest;
      image.data[channel * area + at] = 2 * (opacity * value + 1 - opacity) - 1;
    }
  }
  return image;
}

function isColour(values: ArrayLike<number>, first: number, colour: ArrayLike<number>): boolean {
  for (let channel = 0; channel < colour.length; channel++) {
    if (values[first + channel] !== colour[channel]) return false;
  }
  return true;
}

/**
 * Turns a picture as Exif's orientation says: 5 to 8 are stored with rows and columns exchanged; others than 1 to 8 count as 1.
 *
 * @param image [1, channels, height, width]
 */
export function turned(image: HostTensor, orientation: number): HostTensor {
  if (!(orientation >= 2 && orientation <= 8)) return image;
  const [, channels = 0, rows = 0, columns = 0] = image.shape;
  const exchanged = orientation >= 5;
  const [height, width] = exchanged ? [columns, rows] : [rows, columns];
  const rowsFromEnd = [3, 4, 6, 7].includes(orientation);
  const columnsFromEnd = [2, 3, 7, 8].includes(orientation);
  const result = HostTensor.filled([1, channels, height, width], 0);
  let at = 0;
  for (let channel = 0; channel < channels; channel++) {
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const [row, column] = exchanged ? [x, y] : [y, x];
        const from = (rowsFromEnd ? rows - 1 - row : row) * columns + (columnsFromEnd ? columns - 1 - column : column);
        result.data[at++] = image.data[channel * rows * columns + from]!;
      }
    }
  }
  return result;
}
