import { vaeDistillationLoss, type DownsamplingFilter } from "@sdxs/losses";
import { initialize, random, type HostTensor, type Program } from "@sdxs/tensor";
import { slopeAlongGradient, testBackends, type RunOnce } from "@sdxs/tensor/testing";
import { beforeAll, describe, expect, it } from "vitest";
import { parseAutoencoderTinyConfig, tinyDecoderDistillation, tinyDecoderParameters } from "./index.js";

const config = parseAutoencoderTinyConfig({
  decoder_block_out_channels: [8, 8, 8],
  num_decoder_blocks: [1, 1, 1],
  encoder_block_out_channels: [8, 8, 8],
  num_encoder_blocks: [1, 1, 1],
});
const params = initialize(tinyDecoderParameters(config), 1);
const latents = random(2).normal([2, 4, 4, 4]);
const image = random(3).uniform([2, 3, 16, 16]);

/** Mean over each sample's elements of the absolute difference of k x k averages, in float64. */
function downsampledL1(a: HostTensor, b: HostTensor, k: number): number[] {
  const [batch = 1, channels = 1, height = 1, width = 1] = a.shape;
  return Array.from({ length: batch }, (_, sample) => {
    let total = 0;
    for (let plane = sample * channels; plane < (sample + 1) * channels; plane++) {
      for (let top = 0; top < height; top += k) {
        for (let left = 0; left < width; left += k) {
          let difference = 0;
          for (let y = top; y < top + k; y++) {
            for (let x = left; x < left + k; x++) {
              const at = (plane * height + y) * width + x;
              difference += a.data[at]! - b.data[at]!;
            }
          }
          total += Math.abs(difference) / k ** 2;
        }
      }
    }
    return total / ((channels * height * width) / k ** 2);
  });
}

describe.each(testBackends)("tiny decoder distillation on $name", (backend) => {
  let run: RunOnce;
  beforeAll(async () => {
    run = await backend.run();
  });

  it("is Equation 5's L1 of images averaged down by 8, one value per sample", async () => {
    const { loss, perSample, decoded } = await run(tinyDecoderDistillation(config), params, { latents, image });
    const expected = downsampledL1(decoded, image, 8);
    expect(perSample.shape).toEqual([2]);
    expected.forEach((value, i) => expect(perSample.data[i]).toBeCloseTo(value, 5));
    expect(loss.item()).toBeCloseTo((expected[0]! + expected[1]!) / 2, 5);
  });

  it("adds the terms at full resolution by their weights", async () => {
    const lossOf = async (weights: object, downsample = 8) =>
      (await run(tinyDecoderDistillation(config, { weights, downsample }), params, { latents, image })).loss.item();
    const none = { downsampled: 0 };
    const [l1, mse, ssim, averaged] = await Promise.all([
      lossOf({ ...none, l1: 1 }),
      lossOf({ ...none, mse: 1 }),
      lossOf({ ...none, ssim: 1 }),
      lossOf({}, 4),
    ]);
    expect(await lossOf({ downsampled: 1 }, 1)).toBeCloseTo(l1, 5); // averaging over one pixel changes nothing
    const combined = await lossOf({ downsampled: 2, l1: 3, mse: 0.5, ssim: 0.25 }, 4);
    expect(combined).toBeCloseTo(2 * averaged + 3 * l1 + 0.5 * mse + 0.25 * ssim, 4);
  });

  it("makes images smaller by the given filter", async () => {
    const lossOf = async (filter?: DownsamplingFilter) => {
      const options = { downsample: 4, ...(filter && { filter }) };
      return (await run(tinyDecoderDistillation(config, options), params, { latents, image })).perSample;
    };
    const { decoded } = await run(tinyDecoderDistillation(config), params, { latents, image });
    const filtered: Program<"decoded" | "image", "bicubic"> = (ops, _params, given) => ({
      bicubic: vaeDistillationLoss(ops, given.decoded, given.image, { downsample: 4, filter: "bicubic-antialias" }),
    });
    const { bicubic } = await run(filtered, {}, { decoded, image });
    const found = await lossOf("bicubic-antialias");
    bicubic.data.forEach((value, i) => expect(found.data[i]).toBeCloseTo(value, 5));
    expect([...(await lossOf("area")).data]).toEqual([...(await lossOf()).data]);
    expect(found.data[0]).not.toBeCloseTo((await lossOf()).data[0]!, 3);
  });

  it("has the gradient that finite differences give", async () => {
    const weights = { downsampled: 1, l1: 0.5, mse: 1, ssim: 0.1 };
    const program: Program = tinyDecoderDistillation(config, { weights, downsample: 4 });
    const name = "decoder.layers.0.weight";
    expect(await slopeAlongGradient(run, program, params, { latents, image }, name)).toBeCloseTo(1, 2);
  });

  it("refuses weights that are all 0", () => {
    expect(() => tinyDecoderDistillation(config, { weights: { downsampled: 0 } })).toThrow(
      expect.objectContaining({ code: "INVALID_ARGUMENT" }),
    );
  });
});
