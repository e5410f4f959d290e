import * as tf from "@tensorflow/tfjs";
import "@tensorflow/tfjs-backend-wasm";
import * as ort from "onnxruntime-node";
import { HostTensor, random } from "@sdxs/tensor";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { expectOutput } from "@sdxs/tensor/testing";
import { load } from "nsfwjs/core";
import { MobileNetV2Model } from "nsfwjs/models/mobilenet_v2";
import { beforeAll, describe, expect, it, vi } from "vitest";
import { loadEmojiDataset } from "../dataset.js";
import { loadJudge, type Judge } from "./judge.js";

describe("the judge", () => {
  let judge: Judge;
  let pictures: HostTensor;
  beforeAll(async () => {
    judge = await loadJudge(onnxBackend({ ort, threads: 1 }));
    pictures = (await loadEmojiDataset({ concepts: ["lion", "guitar"] })).batch(1, 0, 3).images;
  });

  it("has the features that nsfwjs computes by tfjs", async () => {
    await tf.setBackend("wasm");
    vi.spyOn(console, "info").mockReturnValue(undefined); // nsfwjs names its model
    const reference = await load("MobileNetV2", { modelDefinitions: [MobileNetV2Model] });
    const bytes = pictures.data.subarray(0, 3 * 64 * 64).map((value) => (value + 1) * 127.5);
    const image = tf.tensor3d(bytes, [3, 64, 64]).transpose<tf.Tensor3D>([1, 2, 0]);
    const expected = ["block_12_add", "block_13_project_BN"].flatMap((layer) => [
      ...reference.infer(image, layer).mean([1, 2]).dataSync(),
    ]);
    const { shape, data } = await judge.features(pictures);
    expect(shape).toEqual([3, 256]);
    expectOutput("features", HostTensor.from([256], data.subarray(0, 256)), HostTensor.from([256], expected));
  });

  it("measures no distance between equal pictures, and more with more noise", async () => {
    const noise = random("judge").normal(pictures.shape).data;
    const noisy = (level: number) =>
      new HostTensor(
        pictures.shape,
        pictures.data.map((value, i) => value + level * noise[i]!),
      );
    const distances = async (level: number) => [...(await judge.perceptualDistances(pictures, noisy(level))).data];
    const [none, little, much] = [await distances(0), await distances(0.1), await distances(0.5)];
    expect(none).toEqual([0, 0, 0]);
    for (let row = 0; row < 3; row++) {
      expect(little[row]).toBeGreaterThan(0);
      expect(much[row]).toBeGreaterThan(little[row]!);
    }
  });

  it("refuses other tensors than images", async () => {
    await expect(judge.features(HostTensor.filled([2, 1, 64, 64], 0))).rejects.toMatchObject({
      code: "SHAPE_MISMATCH",
    });
  });
});
