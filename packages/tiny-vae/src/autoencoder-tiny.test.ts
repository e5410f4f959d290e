import { existsSync } from "node:fs";
import { beforeAll, describe, expect, it } from "vitest";
import {
  HostTensor,
  checkParameters,
  initialize,
  mapTensors,
  random,
  scope,
  sizeOf,
  type Ops,
  type TensorMap,
} from "@sdxs/tensor";
import {
  expectCase,
  expectOutput,
  listShapes,
  maxAbsError,
  readModelListing,
  referenceCase,
  testBackends,
  type RunOnce,
} from "@sdxs/tensor/testing";
import {
  autoencoderTinyParameters,
  autoencoderTinyPresets,
  decodeTiny,
  encodeTiny,
  fromTaesdNames,
  parseAutoencoderTinyConfig,
  tinyDecoderParameters,
  tinyDecoderReach,
  tinyEncoderParameters,
  tinyEncoderReach,
  type AutoencoderTinyConfig,
} from "./index.js";
import { checkAutoencoderTinyCase, computeTiny } from "./autoencoder-cases.test-support.js";

/** Reference data computed by diffusers 0.27.2: see fixtures/README.md. */
const reference = referenceCase(new URL("../fixtures/taesd_small/", import.meta.url));

/** TAEF2 with its own code's results: weights that are not part of the project. */
const taef2 = new URL("../../../../shared/real/taef2/", import.meta.url);

describe("published AutoencoderTiny at full size", () => {
  it("has exactly diffusers' parameters, of which the decoder has the paper's 1.2 M", async () => {
    const file = new URL("../fixtures/full-models/autoencoder_tiny.json.gz", import.meta.url);
    const { config, parameters } = await readModelListing(file);
    expect(listShapes(autoencoderTinyParameters(parseAutoencoderTinyConfig(config)))).toEqual(
      Object.fromEntries(parameters),
    );
    const count = (specs: Record<string, { shape: readonly number[] }>): number =>
      Object.values(specs).reduce((sum, { shape }) => sum + sizeOf(shape), 0);
    expect(count(tinyEncoderParameters(parseAutoencoderTinyConfig({})))).toBe(1_222_532);
    expect(count(tinyDecoderParameters(parseAutoencoderTinyConfig({})))).toBe(1_222_531);
    expect(autoencoderTinyPresets.taesd).toEqual(parseAutoencoderTinyConfig(config));
    expect(autoencoderTinyPresets.taesd).toEqual(parseAutoencoderTinyConfig({}));
  });

  it("has the latents of SD 3, FLUX.1 and FLUX.2", () => {
    const { taesd3, taef1, taef2 } = mapTensors(autoencoderTinyPresets, (preset: AutoencoderTinyConfig) =>
      listShapes(autoencoderTinyParameters(preset)),
    );
    expect(taesd3).toEqual(taef1);
    expect(taef1).toMatchObject({
      "encoder.layers.14.weight": [16, 64, 3, 3],
      "decoder.layers.0.weight": [64, 16, 3, 3],
    });
    expect(taef2).toMatchObject({
      "encoder.layers.14.weight": [32, 64, 3, 3],
      "decoder.layers.0.weight": [64, 32, 3, 3],
    });
    // TAESD's names of TAEF2's branch are pool.0 to pool.3 in the blocks of the lowest resolution.
    const branch = Object.entries(taef2 ?? {}).filter(([name]) => name.includes(".pool."));
    expect(branch).toHaveLength(4 * 6);
    expect(Object.fromEntries(branch)).toMatchObject({
      "encoder.layers.11.pool.0.weight": [256, 64, 1, 1],
      "encoder.layers.12.pool.1.weight": [256],
      "encoder.layers.13.pool.1.bias": [256],
      "decoder.layers.2.pool.3.weight": [64, 256, 1, 1],
      "decoder.layers.4.pool.0.weight": [256, 64, 1, 1],
    });
  });
});

describe("parseAutoencoderTinyConfig", () => {
  it.each([
    ["act_fn", "gelu"],
    ["upsample_fn", "bilinear"],
    ["num_decoder_blocks", [3, 3]],
    ["num_decoder_blocks", [3, 3, 3, -1]],
    ["latent_channels", 0],
  ])("refuses %s: %j and names the field and its value", (field, value) => {
    expect(() => parseAutoencoderTinyConfig({ [field]: value })).toThrow(
      expect.objectContaining({
        code: "UNSUPPORTED_CONFIG",
        message: expect.stringContaining(`"${field}" is ${JSON.stringify(value)}`),
      }),
    );
  });
});

describe.each(testBackends)("AutoencoderTiny on $name", (backend) => {
  let run: RunOnce;
  beforeAll(async () => {
    run = await backend.run();
  });

  it("has diffusers' latents, images and gradients", async () => {
    expectCase(await checkAutoencoderTinyCase(reference, run));
  });

  it("halves and doubles once per stage but one, with channels of each stage's own", async () => {
    const config = parseAutoencoderTinyConfig({
      encoder_block_out_channels: [4, 6, 8],
      num_encoder_blocks: [1, 1, 2],
      decoder_block_out_channels: [8, 6, 4],
      num_decoder_blocks: [2, 1, 1],
    });
    const inputs = { image: HostTensor.filled([2, 3, 16, 8], 0.5), latents: HostTensor.filled([2, 4, 4, 2], 1) };
    const results = await run(computeTiny(config), initialize(autoencoderTinyParameters(config), 1), inputs);
    expect(results.latents.shape).toEqual([2, 4, 4, 2]);
    expect(results.decoded.shape).toEqual([2, 3, 16, 8]);
  });

  it("adds TAEF2's branch with a group norm to what a block takes", async () => {
    // One block whose convolutions give 0, between convolutions that change nothing: relu(x + branch(x)).
    const config = parseAutoencoderTinyConfig({
      in_channels: 2,
      latent_channels: 2,
      encoder_block_out_channels: [2],
      num_encoder_blocks: [1],
      decoder_block_out_channels: [2],
      num_decoder_blocks: [1],
      use_midblock_gn: true,
    });
    const identity = HostTensor.from(
      [2, 2, 3, 3],
      Array.from({ length: 36 }, (_, i) => (i === 4 || i === 31 ? 1 : 0)),
    );
    const wide = random(1).normal([8, 2, 1, 1]);
    const narrow = random(2).normal([2, 8, 1, 1]);
    const scale = random(3).normal([8]);
    const shift = random(4).normal([8]);
    const weights = {
      ...mapTensors(tinyEncoderParameters(config), ({ shape }) => HostTensor.filled(shape, 0)),
      "encoder.layers.0.weight": identity,
      "encoder.layers.2.weight": identity,
      "encoder.layers.1.pool.0.weight": wide,
      "encoder.layers.1.pool.1.weight": scale,
      "encoder.layers.1.pool.1.bias": shift,
      "encoder.layers.1.pool.3.weight": narrow,
    };
    const image = random(5).uniform([2, 2, 3, 2]);
    const program = <T>(ops: Ops<T>, params: TensorMap<T>, inputs: Readonly<Record<"image", T>>) => ({
      latents: encodeTiny(ops, scope(ops, params), config, inputs.image),
    });
    const { latents } = await run(program, weights, { image });

    const expected = new Float32Array(24);
    for (let sample = 0; sample < 2; sample++) {
      const x = (channel: number, pixel: number): number =>
        ((image.data[(sample * 2 + channel) * 6 + pixel] ?? NaN) + 1) / 2;
      const pixels = [0, 1, 2, 3, 4, 5];
      const branch = pixels.map(() => [0, 0]);
      for (const group of [0, 1, 2, 3]) {
        const channels = [2 * group, 2 * group + 1];
        const values = channels.map((channel) =>
          pixels.map((pixel) => wide.data[2 * channel]! * x(0, pixel) + wide.data[2 * channel + 1]! * x(1, pixel)),
        );
        const mean = values.flat().reduce((sum, value) => sum + value) / 12;
        const variance = values.flat().reduce((sum, value) => sum + (value - mean) ** 2, 0) / 12;
        for (const [index, channel] of channels.entries()) {
          for (const pixel of pixels) {
            const normalized = (values[index]![pixel]! - mean) / Math.sqrt(variance + 1e-5);
            const activated = Math.max(normalized * scale.data[channel]! + shift.data[channel]!, 0);
            for (const out of [0, 1]) branch[pixel]![out]! += narrow.data[8 * out + channel]! * activated;
          }
        }
      }
      for (const out of [0, 1]) {
        for (const pixel of pixels) {
          expected[(sample * 2 + out) * 6 + pixel] = Math.max(x(out, pixel) + branch[pixel]![out]!, 0);
        }
      }
    }
    expectOutput("latents", latents, new HostTensor([2, 2, 3, 2], expected));
  });

  it.skipIf(!existsSync(taef2))(
    "loads the pretrained TAEF2 under its own names and gives its latents and image (skipped without ../shared/real)",
    async () => {
      const [encoder, decoder, io] = await Promise.all(
        ["encoder", "decoder", "io"].map((file) => referenceCase(taef2).tensors(`${file}.safetensors`)),
      );
      const config = autoencoderTinyPresets.taef2;
      const weights = fromTaesdNames({ encoder, decoder } as Record<"encoder" | "decoder", TensorMap<HostTensor>>);
      checkParameters(autoencoderTinyParameters(config), weights);
      const program = <T>(
        ops: Ops<T>,
        params: TensorMap<T>,
        { image, given }: Readonly<Record<"image" | "given", T>>,
      ) => {
        const p = scope(ops, params);
        const toUnit = (x: T): T => ops.mul(ops.add(x, 1), 0.5); // the reference's images lie in [0, 1]
        const latents = encodeTiny(ops, p, config, ops.sub(ops.mul(image, 2), 1));
        return {
          latents,
          decoded: toUnit(decodeTiny(ops, p, config, given)),
          reconstruction: toUnit(decodeTiny(ops, p, config, latents)),
        };
      };
      const references = io as Record<string, HostTensor>;
      const inputs = { image: references["in.image"]!, given: references["out.latents"]! };
      const results = await run(program, weights, inputs);
      expect(maxAbsError(results.latents, references["out.latents"]!)).toBeLessThan(1e-3);
      expect(maxAbsError(results.decoded, references["out.decoded"]!)).toBeLessThan(1e-3);
      expect(maxAbsError(results.reconstruction, references["out.decoded"]!)).toBeLessThan(1e-3);
    },
  );

  it.each([
    { blocks: [1, 1, 1], factor: 2 },
    { blocks: [2, 1], factor: 3 },
    { blocks: [1, 1, 0], factor: 2 },
  ])("sees as far as tinyEncoderReach and tinyDecoderReach say: $blocks blocks", async ({ blocks, factor }) => {
    const channels = blocks.map(() => 2);
    const config = parseAutoencoderTinyConfig({
      in_channels: 1,
      out_channels: 1,
      latent_channels: 1,
      encoder_block_out_channels: channels,
      decoder_block_out_channels: channels,
      num_encoder_blocks: blocks,
      num_decoder_blocks: blocks,
      upsampling_scaling_factor: factor,
    });
    // Weights of 1 and biases of 0: an impulse is seen wherever a path leads, and nothing else is.
    const weights = mapTensors(autoencoderTinyParameters(config), ({ shape }, name) =>
      HostTensor.filled(shape, name.endsWith("weight") ? 1 : 0),
    );
    const [imageWidth, latentWidth] = [128, 40];
    const impulse = (width: number, at: number, low: number) =>
      HostTensor.from(
        [1, 1, 1, width],
        Array.from({ length: width }, (_, x) => (x === at ? 1 : low)),
      );
    const reduction = 2 ** (blocks.length - 1);
    const enlargement = factor ** (blocks.length - 1);
    let encoderReach = 0;
    let decoderReach = 0;
    for (let phase = 0; phase < reduction; phase++) {
      const [pixel, latent] = [imageWidth / 2 + phase, latentWidth / 2];
      const inputs = { image: impulse(imageWidth, pixel, -1), latents: impulse(latentWidth, latent, 0) };
      const { latents, decoded } = await run(computeTiny(config), weights, inputs);
      for (const [x, value] of latents.data.entries()) {
        if (value !== 0) encoderReach = Math.max(encoderReach, Math.abs(x * reduction - pixel));
      }
      for (const [i, value] of decoded.data.entries()) {
        const x = i % (latentWidth * enlargement);
        if (value !== -1) decoderReach = Math.max(decoderReach, Math.abs(Math.floor(x / enlargement) - latent));
      }
    }
    expect([encoderReach, decoderReach]).toEqual([tinyEncoderReach(config), tinyDecoderReach(config)]);
  });

  it("says what shape it needs", async () => {
    const config = parseAutoencoderTinyConfig({});
    const inputs = { image: HostTensor.filled([1, 4, 8, 8], 0), latents: HostTensor.filled([1, 4, 1, 1], 0) };
    await expect(run(computeTiny(config), {}, inputs)).rejects.toMatchObject({
      code: "SHAPE_MISMATCH",
      message: expect.stringContaining("[batch, 3, height, width], got [1, 4, 8, 8]"),
    });
  });
});
