import type { Rgb } from "./colours.js";

/** Height and width of a scene in pixels. */
export const sceneSize = 128;
const area = sceneSize * sceneSize;

/** A picture in progress: sRGB in [0, 255], planar [3, sceneSize, sceneSize]. */
export type Canvas = Float32Array<ArrayBuffer>;

export function newCanvas(): Canvas {
  return new Float32Array(3 * area);
}

/** Colours every pixel by its centre's place, in shares of the picture's width and height. */
export function fill(canvas: Canvas, colourAt: (x: number, y: number) => Rgb): void {
  for (let pixel = 0; pixel < area; pixel++) {
    const [red, green, blue] = colourAt(
      ((pixel % sceneSize) + 0.5) / sceneSize,
      (Math.floor(pixel / sceneSize) + 0.5) / sceneSize,
    );
    canvas[pixel] = red;
    canvas[area + pixel] = green;
    canvas[2 * area + pixel] = blue;
  }
}

/**
 * Lays a colour over the canvas where a shape is.
 *
 * @param distance signed distance from the shape's edge at a place, in shares of the picture's width, below 0 inside; edges
 *   are one pixel soft
 */
export function paint(canvas: Canvas, colour: Rgb, distance: (x: number, y: number) => number, opacity = 1): void {
  for (let y = 0; y < sceneSize; y++) {
    for (let x = 0; x < sceneSize; x++) {
      const outside = distance((x + 0.5) / sceneSize, (y + 0.5) / sceneSize) * sceneSize;
      if (outside >= 0.5) continue;
      blend(canvas, y * sceneSize + x, colour, opacity * Math.min(1, 0.5 - outside));
    }
  }
}

/** A soft-edged disc, drawn in its box alone. */
export function paintDisc(canvas: Canvas, colour: Rgb, x: number, y: number, radius: number, opacity = 1): void {
  const reach = radius + 1 / sceneSize;
  const clamp = (place: number): number => Math.max(0, Math.min(sceneSize - 1, Math.floor(place * sceneSize)));
  for (let row = clamp(y - reach); row <= clamp(y + reach); row++) {
    for (let column = clamp(x - reach); column <= clamp(x + reach); column++) {
      const outside = Math.hypot(column + 0.5 - x * sceneSize, row + 0.5 - y * sceneSize) - radius * sceneSize;
      if (outside < 0.5) blend(canvas, row * sceneSize + column, colour, opacity * Math.min(1, 0.5 - outside));
    }
  }
}

function blend(canvas: Canvas, pixel: number, colour: Rgb, share: number): void {
  for (let channel = 0; channel < 3; channel++) {
    const at = channel * area + pixel;
    canvas[at] = canvas[at]! + share * (colour[channel]! - canvas[at]!);
  }
}

/** Between two colours: `first` at 0, `second` at 1. */
export function mix(first: Rgb, second: Rgb, share: number): Rgb {
  return [
    first[0] + share * (second[0] - first[0]),
    first[1] + share * (second[1] - first[1]),
    first[2] + share * (second[2] - first[2]),
  ];
}

/** [3, sceneSize, sceneSize] in [-1, 1], for networks. */
export function toImage(canvas: Canvas): Float32Array<ArrayBuffer> {
  return canvas.map((value) => value / 127.5 - 1);
}
