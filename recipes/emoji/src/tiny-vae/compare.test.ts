import { mkdtemp, readFile, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as ort from "onnxruntime-node";
import { HostTensor, initialize, random } from "@sdxs/tensor";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { loadModel } from "@sdxs/runtime/node";
import { autoencoderKlParameters, autoencoderTinyParameters, parseAutoencoderKlConfig } from "@sdxs/tiny-vae";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadEmojiDataset } from "../dataset.js";
import { compareTinyAutoencoders } from "./compare.js";
import { decoderObjectives } from "./distil-tiny-vae.js";

const backend = onnxBackend({ ort, threads: 1 });
/** An autoencoder of the real one's kind with random weights and few channels. */
const config = parseAutoencoderKlConfig({
  block_out_channels: [4, 4, 4],
  norm_num_groups: 2,
  down_block_types: ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"],
  up_block_types: ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"],
  mid_block_add_attention: false,
});
const autoencoder = { config, params: initialize(autoencoderKlParameters(config), 1) };
const judge = {
  features: ({ shape: [pictures = 0] }: HostTensor) => Promise.resolve(random(1, "features").normal([pictures, 2])),
  perceptualDistances: ({ shape: [pictures = 0] }: HostTensor) => Promise.resolve(HostTensor.filled([pictures], 0)),
};

describe("compareTinyAutoencoders", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "sdxs-tiny-vae-"));
  });
  afterAll(() => rm(folder, { recursive: true }));

  it("goes on where it was interrupted, and leaves tables, a picture, logs and weights", async () => {
    const dataset = await loadEmojiDataset({ concepts: ["robot"] });
    /** Stages that trained, of a run that is aborted in one of them. */
    async function run(abortIn?: string): Promise<{ trained: Set<string>; tables: string }> {
      const abort = new AbortController();
      const trained = new Set<string>();
      const tables = await compareTinyAutoencoders({
        backend,
        autoencoder,
        judge,
        dataset,
        seed: 1,
        evaluation: dataset.batch(2, 0, 8).images,
        reference: random(2, "features").normal([8, 2]),
        pictures: 16,
        steps: 6, // two of them with the GAN
        workFolder: join(folder, "work"),
        outputFolder: folder,
        signal: abort.signal,
        onProgress: (stage, { metrics }) => {
          if (metrics["loss"] !== undefined) trained.add(stage);
          if (stage === abortIn) abort.abort();
        },
      });
      return { trained, tables };
    }
    await expect(run("Equation 5 with GAN, GAN")).rejects.toThrow();
    const { trained, tables } = await run();

    expect([...trained]).toEqual(["Equation 5 with GAN, GAN", "tiny encoder"]);
    const decoders = ["AutoencoderKL", ...Object.keys(decoderObjectives).map((name) => `tiny, ${name}`)];
    expect(tables.split("\n").map((line) => line.split("|")[1]?.trim())).toEqual([
      ...["decoder", "---", ...decoders, undefined],
      ...["encoder", "---", "AutoencoderKL", "tiny", undefined],
    ]);
    expect(await readFile(join(folder, "table.md"), "utf8")).toBe(tables);
    const { width } = await sharp(join(folder, "reconstructions.png")).metadata();
    // A column for each decoder, one for the originals and one for the tiny encoder.
    expect(width).toBe((decoders.length + 2) * (3 * 64 + 8) + 8);
    expect(await readdir(join(folder, "work", "Equation 5 with GAN, GAN"))).toEqual(
      expect.arrayContaining(["checkpoints", "events", "metrics.csv", "validation-1.png"]),
    );
    const { config: saved, params } = await loadModel(join(folder, "tiny-vae"), { className: "AutoencoderTiny" });
    expect(Object.keys(params).sort()).toEqual(Object.keys(autoencoderTinyParameters(saved)).sort());
  });
});
