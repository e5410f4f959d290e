import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { HostTensor, initialize, scope, type Ops, type TensorMap } from "@sdxs/tensor";
import { expectCase, expectOutput, referenceCase, testBackends, type RunOnce } from "@sdxs/tensor/testing";
import { checkClipModelCase } from "./clip-model-case.test-support.js";
import {
  clipModelParameters,
  clipPixels,
  clipScore,
  parseClipConfig,
  parseVisionEncoderConfig,
  visionEncoder,
} from "./clip-model.js";
import { loadModel, saveModel } from "../checkpoints/model-folder.js";

const root = mkdtempSync(join(tmpdir(), "sdxs-clip-"));
afterAll(() => rmSync(root, { recursive: true }));

describe.each(testBackends)("clipModel on $name", (backend) => {
  let run: RunOnce;
  beforeAll(async () => {
    run = await backend.run();
  });

  it("embeds texts and pictures as transformers does", async () => {
    expectCase(await checkClipModelCase(referenceCase(new URL("../../fixtures/clip_model/", import.meta.url)), run));
  });

  it("takes a pipeline's pictures as CLIPImageProcessor normalises them", async () => {
    const program = <T>(ops: Ops<T>, _: TensorMap<T>, { images }: Readonly<Record<"images", T>>) => ({
      pixels: clipPixels(ops, images),
    });
    // Black, white and middle grey in [-1, 1].
    const images = HostTensor.from([1, 3, 1, 3], [-1, 1, 0, -1, 1, 0, -1, 1, 0]);
    const { pixels } = await run(program, {}, { images });
    // (x - mean) / std of 0, 1 and 0.5, as preprocessor_config.json has them, in float64.
    const red = [-1.7922625, 1.9303363, 0.06903686];
    const green = [-1.7520971, 2.0748838, 0.16139335];
    const blue = [-1.4802198, 2.145897, 0.33283861];
    const expected = [...red, ...green, ...blue];
    expectOutput("pixels", pixels, HostTensor.from([1, 3, 1, 3], expected));
  });

  it("scores pairs from 0 to 100", async () => {
    const program = <T>(ops: Ops<T>, _: TensorMap<T>, { texts, images }: Readonly<Record<"texts" | "images", T>>) => ({
      score: clipScore(ops, texts, images),
    });
    const texts = HostTensor.from([3, 2], [1, 0, 0, 1, 0.6, 0.8]);
    const images = HostTensor.from([3, 2], [1, 0, 0, -1, 1, 0]);
    const { score } = await run(program, {}, { texts, images });
    expectOutput("score", score, HostTensor.from([3], [100, 0, 60]));
    await expect(run(program, {}, { texts, images: HostTensor.from([1, 2], [1, 0]) })).rejects.toMatchObject({
      code: "SHAPE_MISMATCH",
    });
  });

  it("refuses pictures of another size", async () => {
    const config = parseVisionEncoderConfig({ image_size: 4, patch_size: 2, hidden_size: 2, num_attention_heads: 1 });
    const program = <T>(ops: Ops<T>, params: TensorMap<T>, { pixels }: Readonly<Record<"pixels", T>>) => ({
      state: visionEncoder(ops, scope(ops, params), config, pixels).lastHiddenState,
    });
    await expect(run(program, {}, { pixels: HostTensor.filled([1, 3, 4, 5], 0) })).rejects.toMatchObject({
      code: "SHAPE_MISMATCH",
      message: expect.stringContaining("pixels must be [batch, 3, 4, 4], got [1, 3, 4, 5]"),
    });
  });
});

const tower = { hidden_size: 4, intermediate_size: 8, num_hidden_layers: 1, num_attention_heads: 2 };

describe("parseClipConfig", () => {
  it("lets the common projection_dim and the former fields count, as transformers does", () => {
    const config = parseClipConfig({
      projection_dim: 6,
      text_config: { hidden_size: 64, projection_dim: 9 },
      text_config_dict: { hidden_size: 32, hidden_act: "gelu" },
      vision_config: tower,
      vision_config_dict: null,
    });
    expect(config.text_config).toMatchObject({ hidden_size: 32, hidden_act: "gelu", projection_dim: 6 });
    expect(config.vision_config).toMatchObject({ ...tower, image_size: 224, patch_size: 32, projection_dim: 6 });
  });

  it.each([
    [{ model_type: "siglip" }, '"model_type" is "siglip"'],
    [{ vision_config: { hidden_act: "relu" } }, '"hidden_act" is "relu"'],
    [{ vision_config: { hidden_size: 7, num_attention_heads: 2 } }, '"num_attention_heads" is 2'],
    [{ vision_config: { patch_size: 300 } }, '"patch_size" is 300'],
    [{ text_config: [] }, '"text_config" is []'],
  ])("refuses %j", (json, message) => {
    expect(() => parseClipConfig(json)).toThrow(
      expect.objectContaining({ code: "UNSUPPORTED_CONFIG", message: expect.stringContaining(message) }),
    );
  });
});

it("a CLIPModel is saved and loaded", async () => {
  const config = parseClipConfig({
    projection_dim: 3,
    text_config: { ...tower, vocab_size: 9, max_position_embeddings: 5 },
    vision_config: { ...tower, image_size: 4, patch_size: 2 },
  });
  const params = initialize(clipModelParameters(config), 1);
  await saveModel(join(root, "clip"), { className: "CLIPModel", config, params });
  const loaded = await loadModel(join(root, "clip"), { className: "CLIPModel" });
  expect(loaded.config).toEqual(config);
  expect(loaded.params).toEqual(params);
});
