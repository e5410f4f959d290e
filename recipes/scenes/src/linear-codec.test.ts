import { beforeAll, describe, expect, it } from "vitest";
import * as ort from "onnxruntime-node";
import { HostTensor, random } from "@sdxs/tensor";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { imageEncoder } from "../../diffusion-model.js";
import { mapBatches } from "../../rows.js";
import { blockSize, principalComponents, type LinearCodec } from "./linear-codec.js";
import { linearEncoder } from "./linear-encoder.js";
import { autoencoderConfig, latentChannels } from "./models.js";
import { linearLatents } from "./networks.js";

const backend = onnxBackend({ ort, threads: 1 });

/** Blocks of 24 smooth patterns in random shares that fall off: what a codec of 16 latents does not quite know. */
function pictures(seed: number, count: number): HostTensor {
  const side = 32;
  const colours = random(1, "colours").normal([24, 3]).data;
  const cosine = (frequency: number, place: number): number => Math.cos((Math.PI * frequency * (place + 0.5)) / 8);
  const data = new Float32Array(count * 3 * side * side);
  for (let picture = 0; picture < count; picture++) {
    for (let block = 0; block < (side / blockSize) ** 2; block++) {
      const shares = random(seed, "shares", picture, block).normal([24]).data;
      const [top, left] = [blockSize * Math.floor(block / 4), blockSize * (block % 4)];
      for (let i = 0; i < 3 * blockSize ** 2; i++) {
        const [channel, y, x] = [Math.floor(i / 64), Math.floor((i % 64) / 8), i % 8];
        let value = 0.3;
        for (let pattern = 0; pattern < 24; pattern++) {
          const weight = 0.1 * shares[pattern]! * 0.8 ** pattern * colours[3 * pattern + channel]!;
          value += weight * cosine(pattern % 3, y) * cosine(Math.floor(pattern / 3) % 3, x);
        }
        data[((picture * 3 + channel) * side + top + y) * side + left + x] = value;
      }
    }
  }
  return new HostTensor([count, 3, side, side], data);
}

describe("principalComponents", () => {
  let codec: LinearCodec;
  const images = pictures(2, 24);
  const latentsOf = async (given: HostTensor): Promise<HostTensor> => {
    const frozen = { "linear.weight": codec.weight, "linear.bias": codec.bias };
    return (await mapBatches(backend, linearLatents, frozen, { images: given }, 8)).latents;
  };

  beforeAll(() => {
    codec = principalComponents(images, latentChannels);
  });

  it("gives latents without a mean, that do not vary together, of a mean square of 1", async () => {
    const { data, shape } = await latentsOf(images);
    const [count = 0, channels = 0, height = 0, width = 0] = shape;
    const positions = height * width;
    const mean = (of: (sample: number, position: number) => number): number => {
      let sum = 0;
      for (let sample = 0; sample < count; sample++) {
        for (let position = 0; position < positions; position++) sum += of(sample, position);
      }
      return sum / (count * positions);
    };
    const value = (channel: number, sample: number, position: number): number =>
      data[(sample * channels + channel) * positions + position]!;
    let square = 0;
    for (let one = 0; one < channels; one++) {
      expect(mean((s, p) => value(one, s, p))).toBeCloseTo(0, 4);
      square += mean((s, p) => value(one, s, p) ** 2) / channels;
      for (let other = 0; other < one; other++) {
        expect(mean((s, p) => value(one, s, p) * value(other, s, p))).toBeCloseTo(0, 4);
      }
    }
    expect(square).toBeCloseTo(1, 4);
  });

  it("knows its error: what is left of the pictures' variance beyond the latents'", () => {
    const all = principalComponents(images, 192 / 8);
    expect(all.error).toBeLessThan(1e-8); // 24 patterns: 24 latents tell everything
    expect(codec.error).toBeGreaterThan(1e-6);
  });

  it("is what an encoder begins as, to a few percent", async () => {
    const params = linearEncoder(autoencoderConfig, codec, 3);
    const given = pictures(5, 8);
    const expected = (await latentsOf(given)).data;
    const unscaled = { ...autoencoderConfig, scaling_factor: 1 };
    const { data } = (await mapBatches(backend, imageEncoder(unscaled), params, { images: given }, 8)).latents;
    const square = (values: ArrayLike<number>): number =>
      Array.from(values).reduce((sum, value) => sum + value * value, 0);
    const error = Array.from(data, (value, i) => value - expected[i]!);
    expect(Math.sqrt(square(error) / square(expected))).toBeLessThan(0.1);
  });
});
