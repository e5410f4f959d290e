import { canny } from "@sdxs/controlnet";
import type { RgbaImage } from "@sdxs/runtime";
import { HostTensor } from "@sdxs/tensor";
import { element } from "./elements.js";
import type { Sketch } from "./messages.js";

/** Width and height in pixels: the models' pictures'. */
const SIZE = 64;
/** How wide the rubber is, to each side of its middle. Chosen: lines of one pixel are hard to hit. */
const RUBBER = 3;

/** Pixels of a straight line (Bresenham), both ends included. */
export function lineBetween(from: readonly [number, number], to: readonly [number, number]): [number, number][] {
  const [dx, dy] = [Math.abs(to[0] - from[0]), Math.abs(to[1] - from[1])];
  const steps = Math.max(dx, dy);
  return Array.from({ length: steps + 1 }, (_, step) => {
    const share = steps === 0 ? 0 : step / steps;
    return [Math.round(from[0] + share * (to[0] - from[0])), Math.round(from[1] + share * (to[1] - from[1]))];
  });
}

/** Pixels moved to the right and downwards; what leaves the picture is lost. */
export function shifted(pixels: Uint8Array, dx: number, dy: number, size = SIZE): Uint8Array<ArrayBuffer> {
  const moved = new Uint8Array(pixels.length);
  for (let y = Math.max(0, dy); y < Math.min(size, size + dy); y++) {
    for (let x = Math.max(0, dx); x < Math.min(size, size + dx); x++) {
      moved[y * size + x] = pixels[(y - dy) * size + x - dx] ?? 0;
    }
  }
  return moved;
}

/** Edges of a picture as lines of a sketch, as the ControlNet was trained on. */
export function edgesOf({ data, width, height }: RgbaImage): Uint8Array<ArrayBuffer> {
  const image = HostTensor.filled([1, 3, height, width], 0);
  for (let i = 0; i < width * height; i++) {
    for (let channel = 0; channel < 3; channel++) {
      image.data[channel * width * height + i] = (data[4 * i + channel] ?? 0) / 127.5 - 1;
    }
  }
  return Uint8Array.from(canny(image).data.subarray(0, width * height));
}

/** Where a user draws the lines that the student follows: by pointer, by the edges of a picture, by arrow keys. */
export class SketchPad {
  private pixels = new Uint8Array(SIZE * SIZE);
  private version = 0;
  private last: [number, number] | undefined;
  private readonly canvas = element("#sketch canvas", HTMLCanvasElement);
  private readonly rubber = element("#rubber", HTMLInputElement);
  private readonly weight = element("#weight", HTMLInputElement);

  constructor(private readonly onChange: () => void) {
    const { canvas } = this;
    canvas.onpointerdown = (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.last = this.place(event);
      this.stroke(this.last);
    };
    canvas.onpointermove = (event) => {
      if (this.last) this.stroke(this.place(event));
    };
    canvas.onpointerup = canvas.onpointercancel = () => (this.last = undefined);
    canvas.onkeydown = (event) => {
      const [dx, dy] = arrows[event.key] ?? [0, 0];
      if (dx === 0 && dy === 0) return;
      event.preventDefault();
      this.replace(shifted(this.pixels, dx, dy));
    };
    element("#clear", HTMLButtonElement).onclick = () => this.replace(new Uint8Array(SIZE * SIZE));
    this.weight.oninput = () => this.onChange();
    this.show();
  }

  /** Undefined where nothing is drawn. */
  get sketch(): Sketch | undefined {
    const { pixels, version } = this;
    return pixels.includes(1) ? { pixels, version, weight: this.weight.valueAsNumber } : undefined;
  }

  replace(pixels: Uint8Array<ArrayBuffer>): void {
    this.pixels = pixels;
    this.version++;
    this.show();
    this.onChange();
  }

  private stroke(to: [number, number]): void {
    const pixels = this.pixels.slice();
    const reach = this.rubber.checked ? RUBBER : 0;
    for (const [x, y] of lineBetween(this.last ?? to, to)) {
      for (let row = Math.max(0, y - reach); row <= Math.min(SIZE - 1, y + reach); row++) {
        for (let column = Math.max(0, x - reach); column <= Math.min(SIZE - 1, x + reach); column++) {
          pixels[row * SIZE + column] = this.rubber.checked ? 0 : 1;
        }
      }
    }
    this.last = to;
    this.replace(pixels);
  }

  private place({ clientX, clientY }: PointerEvent): [number, number] {
    const { left, top, width, height } = this.canvas.getBoundingClientRect();
    const pixel = (at: number, extent: number): number => Math.floor((SIZE * at) / extent);
    return [pixel(clientX - left, width), pixel(clientY - top, height)];
  }

  private show(): void {
    const image = new ImageData(SIZE, SIZE);
    this.pixels.forEach((value, i) => image.data.fill(value * 255, 4 * i, 4 * i + 3).fill(255, 4 * i + 3, 4 * i + 4));
    this.canvas.getContext("2d")?.putImageData(image, 0, 0);
    const count = this.pixels.reduce((sum, value) => sum + value, 0);
    this.canvas.setAttribute("aria-label", count === 0 ? "Sketch, empty" : `Sketch, ${count} pixels of lines`);
  }
}

const arrows: Readonly<Record<string, readonly [number, number]>> = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
};
