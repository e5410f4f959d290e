import { HostTensor, random } from "@sdxs/tensor";
import { onnxBackend } from "@sdxs/tensor/onnx";
import * as ort from "onnxruntime-node";
import { afterAll, expect, it } from "vitest";
import { components, controlled, expectClose } from "./pipeline-case.test-support.js";
import type { PipelineWarning } from "../checkpoints/pipeline-warnings.js";
import { createPipeline } from "./pipeline.js";
import type { GenerateOptions } from "./pipeline-types.js";
import { resizePicture } from "../images/resize-picture.js";

// Its own pictures are of 12 x 8 pixels, in multiples of 2.
const warnings: PipelineWarning[] = [];
const pipeline = createPipeline({
  components: controlled,
  backend: onnxBackend({ ort }),
  onWarning: (warning) => warnings.push(warning),
});
afterAll(() => pipeline.dispose());

const photo = random(6).uniform([1, 3, 21, 27]);

/** What is drawn of this is what is drawn of that. */
async function expectSame(options: GenerateOptions, other: GenerateOptions): Promise<void> {
  const [one, two] = [await pipeline.generate("red", options), await pipeline.generate("red", other)];
  expectClose(one.images, two.images);
}

it("an image of another size is resized as diffusers resizes it", async () => {
  const size = { width: 12, height: 8 };
  await expectSame({ image: photo, ...size }, { image: resizePicture(photo, size) });
});

it("an image gives the picture its size, rounded down as in diffusers' VaeImageProcessor", async () => {
  const size = { width: 26, height: 20 };
  await expectSame({ image: photo }, { image: resizePicture(photo, size) });
});

it("a control of another size is resized to the picture's", async () => {
  const image = resizePicture(photo, { width: 12, height: 8 }, { range: [0, 1] });
  await expectSame({ controls: [{ image: photo, scale: 2 }] }, { controls: [{ image, scale: 2 }] });
});

it.each([
  ["negativePrompt has no effect with a guidanceScale of 1", { negativePrompt: "blue" }, "NO_EFFECT"],
  ["strength has no effect without image", { strength: 0.5 }, "NO_EFFECT"],
  ["a picture of 4x8 is far from the 12x8 pixels", { width: 4 }, "FAR_SIZE"],
  ["a picture of 32x16 is far from the 12x8 pixels", { width: 32, height: 16 }, "FAR_SIZE"],
] as const)("warns that %s", async (text, options, code) => {
  warnings.length = 0;
  await pipeline.generate("red", options);
  expect(warnings).toEqual([{ code, message: expect.stringContaining(text) }]);
});

it.each([
  {},
  { negativePrompt: "red red", guidanceScale: 3 },
  { negativePrompt: "" },
  { strength: 0.5, image: HostTensor.filled([1, 3, 8, 12], 0) },
  { width: 16, height: 12 },
  { width: 6 },
])("has no warning of %j", async (options) => {
  warnings.length = 0;
  await pipeline.generate("red", options);
  expect(warnings).toEqual([]);
});

it("has no warning of a size where the U-Net tells none", async () => {
  const { unet } = components;
  const sizeless = { ...components, unet: { ...unet, config: { ...unet.config, sample_size: null } } };
  const other = createPipeline({ components: sizeless, backend: onnxBackend({ ort }) });
  expect((await other.generate("red", { width: 32, height: 32 })).warnings).toEqual([]);
  await other.dispose();
});
