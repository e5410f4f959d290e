import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { scope, type Program } from "@sdxs/tensor";
import { onnxBackend } from "@sdxs/tensor/onnx";
import * as ort from "onnxruntime-node";
import { afterAll, beforeAll, expect, it } from "vitest";
import { loadEmojiDataset } from "../dataset.js";
import { randomTeacher } from "../random-teacher.test-support.js";
import { pictureNetworks, trainPictureNetwork, type PictureNetwork } from "./picture-networks.js";

const backend = onnxBackend({ ort, threads: 1 });
let workFolder: string;
beforeAll(async () => {
  workFolder = await mkdtemp(join(tmpdir(), "sdxs-extractors-"));
});
afterAll(() => rm(workFolder, { recursive: true }));

it.each<[PictureNetwork, number[][]]>([
  [
    "a CNN",
    [
      [2, 16, 64, 64],
      [2, 32, 32, 32],
      [2, 64, 16, 16],
      [2, 128, 8, 8],
    ],
  ],
  ["a vision transformer", Array<number[]>(4).fill([2, 96, 8, 8])],
])("%s is trained, and its weights are those of its features", async (name, shapes) => {
  const dataset = await loadEmojiDataset({ concepts: ["banana", "car"], colours: ["white", "red"] });
  const options = { backend, teacher: await randomTeacher(), seed: 1, workFolder };
  const frozen = await trainPictureNetwork(options, dataset, name, 2);
  const { images } = dataset.batch(1, 0, 2);
  const program: Program<"images"> = (ops, params, { images: pictures }) =>
    Object.fromEntries(pictureNetworks[name](ops, scope(ops, params), pictures).map((map, i) => [`map${i}`, map]));
  const compiled = await backend.compile(program, { frozen, inputs: { images } });
  const maps = await compiled.run({}, { images });
  expect(await Promise.all(Object.values(maps).map(async (map) => (await backend.download(map)).shape))).toEqual(
    shapes,
  );
  await compiled.dispose();
});
