import { HostTensor } from "@sdxs/tensor";
import { expect, it, vi } from "vitest";
import { fromRgba, toImageBitmaps, toRgba } from "./pictures.js";

it("toRgba rounds [-1, 1] to bytes, clips values outside, and adds opacity", () => {
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

it("fromRgba blends with white, and takes the bytes of toRgba", () => {
  const data = Uint8ClampedArray.of(255, 0, 51, 255, 0, 0, 0, 0, 0, 0, 0, 51);
  const image = fromRgba({ width: 3, height: 1, data });
  expect(image.shape).toEqual([1, 3, 1, 3]);
  [1, 1, 0.6, -1, 1, 0.6, -0.6, 1, 0.6].forEach((value, i) => expect(image.data[i]).toBeCloseTo(value, 6));
  const opaque = { width: 2, height: 1, data: Uint8ClampedArray.of(1, 2, 3, 255, 250, 128, 0, 255) };
  expect(toRgba(fromRgba(opaque))).toEqual([opaque]);
  expect(() => fromRgba({ width: 2, height: 2, data })).toThrow(
    expect.objectContaining({ code: "INVALID_ARGUMENT", message: expect.stringContaining("2 * 2 * 4 bytes") }),
  );
});
