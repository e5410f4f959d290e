import { HostTensor } from "@sdxs/tensor";
import { expect, it } from "vitest";
import { largestDifference, resizedBy, seenIn } from "./picture-files.test-support.js";
import { resizePicture } from "./resize-picture.js";

const picture = seenIn("resize.picture");

it.each(resizedBy)("resizePicture equals Pillow and diffusers, to the byte: $mode to $width x $height", (expected) => {
  const { name, mode, ...size } = expected;
  const resized = resizePicture(picture, size, { mode });
  expect(resized.shape).toEqual([1, 3, size.height, size.width]);
  expect(largestDifference(resized, seenIn(name))).toBeLessThan(1e-4);
});

it("resizePicture resizes each picture and channel by itself, in any range", () => {
  const condition = new HostTensor(
    [3, 1, 23, 37],
    picture.data.map((value) => (value + 1) / 2),
  );
  const { shape, data } = resizePicture(condition, { width: 16, height: 16 }, { range: [0, 1] });
  expect(shape).toEqual([3, 1, 16, 16]);
  const inPictures = new HostTensor(
    [1, 3, 16, 16],
    data.map((value) => 2 * value - 1),
  );
  expect(largestDifference(inPictures, seenIn("resize.stretch.16x16"))).toBeLessThan(1e-4);
});

it("resizePicture leaves pictures of the size as they are", () => {
  const exact = new HostTensor([1, 1, 1, 2], Float32Array.of(0.123456, -0.98765));
  expect(resizePicture(exact, { width: 2, height: 1 })).toEqual(exact);
});

it("resizePicture says what is wrong", () => {
  const wrongShape = HostTensor.filled([3, 23, 37], 0);
  expect(() => resizePicture(wrongShape, { width: 8, height: 8 })).toThrow(
    expect.objectContaining({ code: "SHAPE_MISMATCH" }),
  );
  for (const width of [0, 1.5, NaN, -8]) {
    expect(() => resizePicture(picture, { width, height: 8 })).toThrow(
      expect.objectContaining({ code: "INVALID_ARGUMENT", message: expect.stringContaining("width") }),
    );
  }
});
