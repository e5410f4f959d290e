import { beforeAll, describe, expect, it } from "vitest";
import { HostTensor, initialize, random, scope, type Ops, type TensorMap } from "@sdxs/tensor";
import { maxAbsError, referenceCase, testBackends, type RunOnce } from "@sdxs/tensor/testing";
import {
  autoencoderTinyParameters,
  autoencoderTinyPresets,
  computeInTiles,
  decodeKl,
  decodeTiny,
  encodeTiny,
  klMoments,
  parseAutoencoderKlConfig,
  parseAutoencoderTinyConfig,
  tinyDecoderReach,
  tinyEncoderReach,
  type TilingOptions,
} from "./index.js";

const identity = (tile: HostTensor): Promise<HostTensor> => Promise.resolve(tile);

/** Every pixel `factor` times on both axes, or where `factor` is below 1 the first of each square. */
function resize({ shape, data }: HostTensor, factor: number): HostTensor {
  const [batch = 1, channels = 1, height = 1, width = 1] = shape;
  const [rows, columns] = [height * factor, width * factor];
  const values = new Float32Array(batch * channels * rows * columns);
  for (let plane = 0; plane < batch * channels; plane++) {
    for (let y = 0; y < rows; y++) {
      for (let x = 0; x < columns; x++) {
        const from = (plane * height + Math.floor(y / factor)) * width + Math.floor(x / factor);
        values[(plane * rows + y) * columns + x] = data[from] ?? NaN;
      }
    }
  }
  return new HostTensor([batch, channels, rows, columns], values);
}

describe("computeInTiles", () => {
  it.each<[size: [number, number], options: TilingOptions]>([
    [[8, 8], { tile: 8 }],
    [[5, 3], { tile: 8 }],
    [[9, 17], { tile: 8 }],
    [[40, 23], { tile: [8, 10], overlap: 1 }],
    [[40, 23], { tile: [16, 4], overlap: 0 }],
    [[64, 31], { tile: 8, overlap: 7 }],
    [[31, 40], { tile: 12, margin: 3 }],
    [[31, 40], { tile: 12, overlap: 9, margin: 2 }],
  ])("gives pixel for pixel what it is given: %j in %j", async (size, options) => {
    const x = random(1).uniform([2, 3, ...size]);
    expect(maxAbsError(await computeInTiles(identity, x, options), x)).toBeLessThan(1e-6);
    for (const factor of [3, 1 / 2]) {
      // Smaller results want multiples.
      const input = factor < 1 ? resize(x, 2) : x;
      const doubled = {
        tile:
          typeof options.tile === "number" ? 2 * options.tile : ([2 * options.tile[0], 2 * options.tile[1]] as const),
        ...(options.overlap === undefined ? {} : { overlap: 2 * options.overlap }),
        margin: 2 * (options.margin ?? 0),
      };
      const run = async (tile: HostTensor) => Promise.resolve(resize(tile, factor));
      const result = await computeInTiles(run, input, factor < 1 ? doubled : options);
      expect(maxAbsError(result, resize(input, factor))).toBeLessThan(1e-6);
    }
  });

  it("runs tiles of one shape, spread evenly", async () => {
    const shapes: string[] = [];
    const lefts: number[] = [];
    const ramp = HostTensor.from(
      [1, 1, 6, 26],
      Array.from({ length: 6 * 26 }, (_, i) => i % 26),
    );
    const run = async (tile: HostTensor) => {
      shapes.push(tile.shape.join());
      lefts.push(tile.data[0] ?? NaN);
      return Promise.resolve(tile);
    };
    await computeInTiles(run, ramp, { tile: 8, overlap: 2 });
    // Steps of at most 6: three of them, 18 pixels in all.
    expect(shapes).toEqual(["1,1,6,8", "1,1,6,8", "1,1,6,8", "1,1,6,8"]);
    expect(lefts).toEqual([0, 6, 12, 18]);
  });

  it("blends linearly from one tile to the next, along both axes", async () => {
    const numbered = () => {
      let count = 0;
      return ({ shape }: HostTensor) => Promise.resolve(HostTensor.filled(shape, count++));
    };
    const row = await computeInTiles(numbered(), HostTensor.filled([1, 1, 1, 12], 0), { tile: 8, overlap: 4 });
    expect([...row.data]).toEqual([0, 0, 0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1, 1, 1]);
    const narrower = { tile: 8, overlap: 4, margin: 1 };
    const within = await computeInTiles(numbered(), HostTensor.filled([1, 1, 1, 12], 0), narrower);
    expect([...within.data]).toEqual([0, 0, 0, 0, 0, 0.25, 0.75, 1, 1, 1, 1, 1]);
    // Tiles 0 and 1 above 2 and 3: the first half's value is that of the column, the second half's 2 more.
    const square = await computeInTiles(numbered(), HostTensor.filled([1, 1, 3, 3], 0), { tile: 2, overlap: 1 });
    expect([...square.data]).toEqual([0, 0.5, 1, 1, 1.5, 2, 2, 2.5, 3]);
  });

  it("keeps away from what tiles hold along their inner edges", async () => {
    const x = random(1).uniform([1, 1, 20, 20]);
    const spoilt = async (tile: HostTensor) => {
      const [, , height = 1, width = 1] = tile.shape;
      const data = Float32Array.from(tile.data, (value, i) => {
        const [row, column] = [Math.floor(i / width), i % width];
        return Math.min(row, height - 1 - row, column, width - 1 - column) < 2 ? NaN : value;
      });
      return Promise.resolve(new HostTensor(tile.shape, data));
    };
    const { data } = await computeInTiles(spoilt, x, { tile: 8, margin: 2 });
    for (const [i, value] of data.entries()) {
      const [row, column] = [Math.floor(i / 20), i % 20];
      const atBorder = Math.min(row, 19 - row, column, 19 - column) < 2;
      expect(value, `[${row}, ${column}]`).toEqual(atBorder ? NaN : expect.closeTo(x.data[i] ?? NaN, 6));
    }
  });

  it.each<[string, TilingOptions, code: string]>([
    ["an overlap of the whole tile", { tile: 8, overlap: 8 }, "INVALID_ARGUMENT"],
    ["margins wider than the overlap", { tile: 8, overlap: 3, margin: 2 }, "INVALID_ARGUMENT"],
    ["a tile of half a pixel", { tile: 7.5 }, "INVALID_ARGUMENT"],
    ["a tile of nothing", { tile: 0 }, "INVALID_ARGUMENT"],
    ["an overlap that becomes no whole pixels", { tile: 8, overlap: 1 }, "INVALID_ARGUMENT"],
    ["a tile that becomes no whole pixels", { tile: 9 }, "SHAPE_MISMATCH"],
  ])("refuses %s", async (_, options, code) => {
    const half = async (tile: HostTensor) => {
      const [batch = 1, channels = 1, height = 1, width = 1] = tile.shape;
      return Promise.resolve(HostTensor.filled([batch, channels, Math.ceil(height / 2), Math.ceil(width / 2)], 0));
    };
    await expect(computeInTiles(half, HostTensor.filled([1, 1, 32, 32], 0), options)).rejects.toMatchObject({ code });
  });

  it("refuses results of other shapes", async () => {
    const x = HostTensor.filled([2, 1, 12, 8], 0);
    const batchOfOne = () => Promise.resolve(HostTensor.filled([1, 1, 8, 8], 0));
    await expect(computeInTiles(batchOfOne, x, { tile: 8 })).rejects.toMatchObject({ code: "SHAPE_MISMATCH" });
    let height = 8;
    const growing = () => Promise.resolve(HostTensor.filled([2, 1, height++, 8], 0));
    await expect(computeInTiles(growing, x, { tile: 8 })).rejects.toMatchObject({ code: "SHAPE_MISMATCH" });
    const flat = HostTensor.filled([12, 8], 0);
    await expect(computeInTiles(identity, flat, { tile: 8 })).rejects.toMatchObject({ code: "SHAPE_MISMATCH" });
  });
});

describe("the reach of TAESD", () => {
  it("is that of its convolutions", () => {
    // taesd.py's 3x3 convolutions, from the output: 1 + 9 at 1/8, 1 + 9 at 1/4, 1 + 9 at 1/2, 1 + 3 + 1 at full size.
    expect(tinyEncoderReach(autoencoderTinyPresets.taesd)).toBe(10 * 8 + 4 + 9 * 4 + 2 + 9 * 2 + 1 + 4);
    // And 5 at full size, 10 at 1/2, 1/4 and 1/8, rounded up to whole pixels each time: 3, 7, 9, 19.
    expect(tinyDecoderReach(autoencoderTinyPresets.taesd)).toBe(19);
    expect(tinyDecoderReach(autoencoderTinyPresets.taef2)).toBe(Infinity);
    expect(tinyEncoderReach(autoencoderTinyPresets.taef2)).toBe(Infinity);
  });
});

describe.each(testBackends)("tiles of an autoencoder on $name", (backend) => {
  let run: RunOnce;
  beforeAll(async () => {
    run = await backend.run();
  });

  const tiny = parseAutoencoderTinyConfig({
    encoder_block_out_channels: [4, 4, 4],
    num_encoder_blocks: [1, 1, 1],
    decoder_block_out_channels: [4, 4, 4],
    num_decoder_blocks: [1, 1, 1],
  });
  const tinyWeights = initialize(autoencoderTinyParameters(tiny), 1);
  const decode = async (latents: HostTensor): Promise<HostTensor> => {
    const program = <T>(ops: Ops<T>, params: TensorMap<T>, inputs: Readonly<Record<"latents", T>>) => ({
      image: decodeTiny(ops, scope(ops, params), tiny, inputs.latents),
    });
    return (await run(program, tinyWeights, { latents })).image;
  };
  const encode = async (image: HostTensor): Promise<HostTensor> => {
    const program = <T>(ops: Ops<T>, params: TensorMap<T>, inputs: Readonly<Record<"image", T>>) => ({
      latents: encodeTiny(ops, scope(ops, params), tiny, inputs.image),
    });
    return (await run(program, tinyWeights, { image })).latents;
  };

  it("give the tiny decoder's exact image where the margin is its reach, and a close one with less", async () => {
    const latents = random(2).normal([2, 4, 40, 33]);
    const whole = await decode(latents);
    const margin = tinyDecoderReach(tiny);
    const exact = await computeInTiles(decode, latents, { tile: 24, margin });
    expect(margin).toBe(8);
    expect(maxAbsError(exact, whole)).toBeLessThan(1e-5);
    const close = maxAbsError(await computeInTiles(decode, latents, { tile: 24 }), whole);
    expect(close).toBeGreaterThan(1e-4);
    expect(close).toBeLessThan(0.1);
  });

  it("give the tiny encoder's exact latents where the margin is its reach", async () => {
    const image = random(3).uniform([2, 3, 160, 132]);
    const margin = Math.ceil(tinyEncoderReach(tiny) / 4) * 4;
    const exact = await computeInTiles(encode, image, { tile: 96, margin });
    expect(maxAbsError(exact, await encode(image))).toBeLessThan(1e-5);
  });

  /** How tiles differ from the whole: root mean square over the whole's, and how steep it is at columns over elsewhere. */
  function difference(tiled: HostTensor, whole: HostTensor, columns: readonly number[]) {
    const width = whole.shape[3] ?? 1;
    const errors = Array.from(whole.data, (value, i) => (tiled.data[i] ?? NaN) - value);
    const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
    const steps = errors.flatMap((error, i) => {
      const column = i % width;
      return column === 0 ? [] : [{ at: columns.includes(column), step: Math.abs(error - (errors[i - 1] ?? NaN)) }];
    });
    const stepsAt = (at: boolean) => mean(steps.filter((step) => step.at === at).map(({ step }) => step));
    return {
      relativeRms: Math.sqrt(mean(errors.map((error) => error ** 2)) / mean(Array.from(whole.data, (v) => v ** 2))),
      contrast: stepsAt(true) / stepsAt(false),
    };
  }

  it("give AutoencoderKL's image and latents nearly, without seams, though its group norms see a tile alone", async () => {
    const reference = referenceCase(new URL("../fixtures/vae_kl_mini/", import.meta.url));
    const config = parseAutoencoderKlConfig(await reference.json("config.json"));
    const weights = await reference.tensors("weights.safetensors");
    const decodeLarge = async (latents: HostTensor): Promise<HostTensor> => {
      const program = <T>(ops: Ops<T>, params: TensorMap<T>, inputs: Readonly<Record<"latents", T>>) => ({
        image: decodeKl(ops, scope(ops, params), config, inputs.latents),
      });
      return (await run(program, weights, { latents })).image;
    };
    const encodeLarge = async (image: HostTensor): Promise<HostTensor> => {
      const program = <T>(ops: Ops<T>, params: TensorMap<T>, inputs: Readonly<Record<"image", T>>) => ({
        moments: klMoments(ops, scope(ops, params), config, inputs.image),
      });
      return (await run(program, weights, { image })).moments;
    };

    const latents = random(1).normal([1, 4, 24, 32]);
    const whole = await decodeLarge(latents);
    // Two tiles in a row: the second begins at column 8, the first ends at 24; each latent is 8 pixels wide.
    const blended = await computeInTiles(decodeLarge, latents, { tile: 24, overlap: 8 });
    expect(difference(blended, whole, [64, 192]).relativeRms).toBeLessThan(0.1);
    expect(difference(blended, whole, [64, 192]).contrast).toBeLessThan(1.5);
    const abutting = await computeInTiles(decodeLarge, latents, { tile: [24, 16], overlap: 0 });
    expect(difference(abutting, whole, [128]).contrast).toBeGreaterThan(2); // the seam that blending takes away

    const image = random(2).uniform([1, 3, 192, 256]);
    const moments = await computeInTiles(encodeLarge, image, { tile: 192, overlap: 64 });
    expect(difference(moments, await encodeLarge(image), [8, 24]).relativeRms).toBeLessThan(0.1);
  });
});
