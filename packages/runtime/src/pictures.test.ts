import { HostTensor } from "@sdxs/tensor";
import { expect, it, vi } from "vitest";
import { toImageBitmaps, toRgba } from "./pictures.js";

it("toRgba rounds [-1, 1] to bytes, clips what lies outside, and adds opacity", () => {
  // Two images of two pixels: red, green, blue planes.
  const images = HostTensor.from([2, 3, 1, 2], [-1, 1, 0, 2, -3, 0.5, 1, 1, 1, 1, 1, 1]);
  expect(toRgba(images)).toEqual([
    { width: 2, height: 1, data: Uint8ClampedArray.of(0, 128, 0, 255, 255, 255, 191, 255) },
    { width: 2, height: 1, data: new Uint8ClampedArray(8).fill(255) },
  ]);
  expect(() => toRgba(HostTensor.filled([1, 1, 2, 2], 0))).toThrow(/\[1, 1, 2, 2\]/);
});

it("toImageBitmaps hands the bytes to the browser", async () => {
  const imageData = function (...given: unknown[]): unknown[] {
    return given;
  };
  vi.stubGlobal("ImageData", imageData);
  vi.stubGlobal("createImageBitmap", (given: unknown) => Promise.resolve(given));
  const images = HostTensor.filled([2, 3, 1, 1], 1);
  const white = Uint8ClampedArray.of(255, 255, 255, 255);
  expect(await toImageBitmaps(images)).toEqual([
    [white, 1, 1],
    [white, 1, 1],
  ]);
  vi.unstubAllGlobals();
});
