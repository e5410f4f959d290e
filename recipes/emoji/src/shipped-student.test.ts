import * as ort from "onnxruntime-node";
import { createPipeline } from "@sdxs/runtime";
import { loadPipelineFolder } from "@sdxs/runtime/node";
import { HostTensor } from "@sdxs/tensor";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { expect, it } from "vitest";
import { concatRows, mapBatches } from "../../rows.js";
import { loadEmojiDataset } from "./dataset.js";
import { tinyDecoderConfig } from "./models.js";
import { imageEncoder } from "../../diffusion-model.js";
import { tinyImageEncoder } from "./networks.js";
import { readStudent, studentFolder } from "./shipped.js";
import { readTeacher } from "./teacher.js";
import { relativeError } from "./tiny-vae/image-quality.js";

const backend = onnxBackend({ ort, threads: 1 });

it("the shipped student's encoder gives the large one's latents of pictures that no training saw", async () => {
  const dataset = await loadEmojiDataset();
  const pictures = dataset.heldOutCombinations
    .slice(0, 12)
    .map((combination) => new HostTensor([1, 3, 64, 64], dataset.render(combination)));
  const { config, params } = (await readTeacher()).autoencoder;
  const { encoder } = await readStudent();
  const inputs = { images: concatRows(pictures) };
  const { latents } = await mapBatches(backend, imageEncoder(config), params, inputs, 12);
  const tiny = await mapBatches(backend, tinyImageEncoder(tinyDecoderConfig), encoder!, inputs, 12);
  expect(relativeError(tiny.latents, latents)).toBeLessThan(0.05);
});

it("the shipped student draws other pictures from other images", async () => {
  const { components } = await loadPipelineFolder(studentFolder, { purpose: "text-to-image" });
  const pipeline = createPipeline({ components, backend });
  const draw = async (level: number) =>
    (
      await pipeline.generate("a red apple", {
        image: HostTensor.filled([1, 3, 64, 64], level),
        strength: 0.5,
        steps: 2,
      })
    ).images;
  const [dark, light] = [await draw(-1), await draw(1)];
  await pipeline.dispose();
  const differences = Array.from(dark.data, (value, index) => Math.abs(value - light.data[index]!));
  expect(differences.reduce((sum, value) => sum + value, 0) / differences.length).toBeGreaterThan(0.1);
});
