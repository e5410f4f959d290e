import { HostTensor, initialize, random, scope, type Program } from "@sdxs/tensor";
import { slopeAlongGradient, testBackends, type RunOnce } from "@sdxs/tensor/testing";
import { beforeAll, describe, expect, it } from "vitest";
import { encodeTiny, parseAutoencoderTinyConfig, tinyEncoderDistillation, tinyEncoderParameters } from "./index.js";

const config = parseAutoencoderTinyConfig({
  encoder_block_out_channels: [8, 8],
  num_encoder_blocks: [1, 1],
  decoder_block_out_channels: [8, 8],
  num_decoder_blocks: [1, 1],
  scaling_factor: 4,
});
const params = initialize(tinyEncoderParameters(config), 1);
const inputs = { image: random(2).uniform([2, 3, 8, 8]), latents: random(3).normal([2, 4, 4, 4]) };

describe.each(testBackends)("tiny encoder distillation on $name", (backend) => {
  let run: RunOnce;
  beforeAll(async () => {
    run = await backend.run();
  });

  it("is the mean squared error in the diffusion model's scale, one value per sample", async () => {
    const encode: Program<"image", "latents"> = (ops, params, { image }) => ({
      latents: encodeTiny(ops, scope(ops, params), config, image),
    });
    const { latents } = await run(encode, params, { image: inputs.image });
    const { loss, perSample, encoded } = await run(tinyEncoderDistillation(config), params, inputs);
    const squares = Array.from(latents.data, (value, i) => (4 * value - inputs.latents.data[i]!) ** 2);
    const expected = [squares.slice(0, 64), squares.slice(64)].map((sample) => sample.reduce((a, b) => a + b) / 64);
    expect(perSample.shape).toEqual([2]);
    expected.forEach((value, i) => expect(perSample.data[i]).toBeCloseTo(value, 5));
    expect(loss.item()).toBeCloseTo((expected[0]! + expected[1]!) / 2, 5);
    latents.data.forEach((value, i) => expect(encoded.data[i]).toBeCloseTo(4 * value, 6));
  });

  it("has the gradient that finite differences give", async () => {
    const name = "encoder.layers.4.weight";
    expect(await slopeAlongGradient(run, tinyEncoderDistillation(config), params, inputs, name)).toBeCloseTo(1, 2);
  });

  it("refuses latents of another size", async () => {
    const larger = { ...inputs, latents: HostTensor.filled([2, 4, 8, 8], 0) };
    await expect(run(tinyEncoderDistillation(config), params, larger)).rejects.toMatchObject({
      code: "SHAPE_MISMATCH",
    });
  });
});
