import { parseUNetConfig } from "@sdxs/tiny-unet";
import { parseAutoencoderTinyConfig } from "@sdxs/tiny-vae";
import { expect, it } from "vitest";
import { fittingSize, trainedSize } from "./picture-size.js";

const model = (sample_size: number | [number, number] | null) => ({
  unet: { className: "UNet2DConditionModel", config: parseUNetConfig({ sample_size }), params: {} } as const,
  vae: {
    className: "AutoencoderTiny",
    config: parseAutoencoderTinyConfig({}), // 8 pixels to a latent
    params: {},
  } as const,
});

it.each([
  // Proportions are kept to half a latent, and pixels are about those of 512 x 512.
  [1000, 1300, 448, 584],
  [4032, 3024, 592, 440],
  [512, 512, 512, 512],
  [64, 64, 512, 512],
  [10000, 10, 16192, 16],
])("fittingSize of %i x %i is %i x %i", (width, height, wide, high) => {
  expect(fittingSize(model(64), { width, height })).toEqual({ width: wide, height: high });
});

it("trainedSize is that of the U-Net, in pixels, height first in its configuration", () => {
  expect(trainedSize(model([32, 96]))).toEqual({ width: 768, height: 256 });
  expect(trainedSize(model(null))).toBeUndefined();
  expect(() => fittingSize(model(null), { width: 8, height: 8 })).toThrow(/no "sample_size"/);
});
