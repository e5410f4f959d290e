import * as ort from "onnxruntime-node";
import { HostTensor } from "@sdxs/tensor";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { describe, expect, it } from "vitest";
import { peakSignalToNoise } from "../../../pixel-quality.js";
import { imageQuality, relativeError } from "./image-quality.js";

const backend = onnxBackend({ ort, threads: 1 });
/** Gives each pair of pictures its place as the distance. */
const judge = {
  perceptualDistances: ({ shape: [pictures = 0] }: HostTensor) =>
    Promise.resolve(HostTensor.from([pictures], [...Array(pictures).keys()])),
};

describe("imageQuality", () => {
  it("averages PSNR and distances over pictures: errors of 0.2 and 0.02 are 20 and 40 dB of a range of 2", async () => {
    const others = HostTensor.filled([2, 3, 16, 16], 0.5);
    const images = HostTensor.from(
      others.shape,
      [...others.data].map((value, i) => value + (i < 768 ? 0.2 : -0.02)),
    );
    const { psnr, perceptualDistance } = await imageQuality(backend, judge, images, others);
    expect(psnr).toBeCloseTo(30, 4);
    expect(perceptualDistance).toBe(0.5);
  });

  it("clips what a decoder gives beyond [-1, 1]", async () => {
    const others = HostTensor.filled([1, 3, 16, 16], 1);
    const { psnr, ssim } = await imageQuality(backend, judge, HostTensor.filled(others.shape, 1.5), others);
    expect(psnr).toBe(Infinity);
    expect(ssim).toBeCloseTo(1, 6);
  });
});

describe("peakSignalToNoise", () => {
  it.each([
    [4, 0],
    [0.04, 20],
    [1, 6.0206], // 10 log10 4
  ])("of an error of %d is %d dB", (error, expected) => {
    expect(peakSignalToNoise(error)).toBeCloseTo(expected, 4);
  });
});

describe("relativeError", () => {
  it("is the mean squared error by the variance", () => {
    const expected = HostTensor.from([2, 2], [1, 3, 5, 7]); // variance 5
    expect(relativeError(HostTensor.from([2, 2], [1, 3, 5, 5]), expected)).toBeCloseTo(1 / 5, 12);
    expect(relativeError(HostTensor.filled([2, 2], 4), expected)).toBe(1); // the mean alone explains nothing
  });
});
