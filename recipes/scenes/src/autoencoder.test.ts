import * as ort from "onnxruntime-node";
import { expect, it } from "vitest";
import { loadModel } from "@sdxs/runtime/node";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { imageDecoder, imageEncoder } from "../../diffusion-model.js";
import { readEmojiPack } from "../../emoji-pack.js";
import { mean, pixelQuality } from "../../pixel-quality.js";
import { mapBatches } from "../../rows.js";
import { autoencoderFolder } from "./models.js";
import { dataFolder, openScenes } from "./scenes.js";

it("the shipped autoencoder reconstructs held-out scenes, from latents of a mean square of 1", async () => {
  const backend = onnxBackend({ ort, threads: 1 });
  const pack = await readEmojiPack(dataFolder, "emoji-128");
  const few = pack.manifest.concepts.filter((_, index) => index % 10 === 0);
  const scenes = await openScenes({ ...pack, manifest: { ...pack.manifest, concepts: few } });
  const { images } = scenes.batch(1, 300, 12);
  const { config, params } = await loadModel(autoencoderFolder, { className: "AutoencoderKL" });
  const { latents } = await mapBatches(backend, imageEncoder(config), params, { images }, 4);
  const decoded = await mapBatches(backend, imageDecoder(config), params, { latents }, 4);
  const { psnr, ssim } = await pixelQuality(backend, decoded.images, images);
  expect(psnr).toBeGreaterThan(29); // of 48 others PSNR
  expect(ssim).toBeGreaterThan(0.91);
  expect(mean(latents.data.map((value) => value * value))).toBeCloseTo(1, 0);
});
