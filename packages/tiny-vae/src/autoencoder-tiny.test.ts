import { beforeAll, describe, expect, it } from "vitest";
import { HostTensor, initialize, scope, select, sizeOf, type Ops, type TensorMap } from "@sdxs/tensor";
import {
  expectGradient,
  expectOutput,
  listShapes,
  maxAbs,
  readModelListing,
  referenceCase,
  testBackends,
  type RunOnce,
} from "@sdxs/tensor/testing";
import {
  autoencoderTinyParameters,
  decodeTiny,
  encodeTiny,
  parseAutoencoderTinyConfig,
  scaleLatents,
  tinyDecoderParameters,
  tinyEncoderParameters,
  unscaleLatents,
  type AutoencoderTinyConfig,
} from "./index.js";

/** Reference data computed by diffusers 0.27.2: see fixtures/README.md. */
const reference = referenceCase(new URL("../fixtures/taesd_small/", import.meta.url));

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
  });
});

describe("parseAutoencoderTinyConfig", () => {
  it.each([
    ["act_fn", "gelu"],
    ["upsample_fn", "bilinear"],
    ["num_decoder_blocks", [3, 3]],
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

const compute =
  (config: AutoencoderTinyConfig) =>
  <T>(ops: Ops<T>, params: TensorMap<T>, { image, latents }: Readonly<Record<"image" | "latents", T>>) => {
    const p = scope(ops, params);
    const encoded = encodeTiny(ops, p, config, image);
    const scaled = scaleLatents(ops, config, encoded);
    return {
      latents: encoded,
      decoded: decodeTiny(ops, p, config, latents),
      reconstruction: decodeTiny(ops, p, config, encoded),
      scale_latents: scaled,
      unscale_latents: unscaleLatents(ops, config, scaled),
    };
  };

/** Gradients of sum(encode(image) * R_enc) + sum(decode(latents) * R_dec). */
const differentiate =
  (config: AutoencoderTinyConfig) =>
  <T>(
    ops: Ops<T>,
    params: TensorMap<T>,
    { image, latents, R_enc, R_dec }: Readonly<Record<"image" | "latents" | "R_enc" | "R_dec", T>>,
  ): TensorMap<T> =>
    ops.valueAndGrad(
      (given) => {
        const p = scope(ops, given);
        const encoded = ops.sum(ops.mul(encodeTiny(ops, p, config, given["image"] as T), R_enc));
        const decoded = ops.sum(ops.mul(decodeTiny(ops, p, config, given["latents"] as T), R_dec));
        return { loss: ops.add(encoded, decoded), aux: {} };
      },
      { ...params, image, latents },
    ).grads;

/** Root mean square of the difference over that of the reference. */
function relativeRms(actual: HostTensor, expected: HostTensor): number {
  const squares = (values: readonly number[]): number => values.reduce((sum, value) => sum + value * value, 0);
  const reference = [...expected.data];
  return Math.sqrt(squares(reference.map((value, index) => value - (actual.data[index] ?? NaN))) / squares(reference));
}

describe.each(testBackends)("AutoencoderTiny on $name", (backend) => {
  let run: RunOnce;
  beforeAll(async () => {
    run = await backend.run();
  });

  const load = async () => {
    const config = parseAutoencoderTinyConfig(await reference.json("config.json"));
    const io = await reference.tensors("io.safetensors");
    return { config, io, weights: await reference.tensors("weights.safetensors") };
  };

  it("encodes, decodes and scales as diffusers does", async () => {
    const { config, io, weights } = await load();
    const { image, latents } = select(io, "in.") as Record<"image" | "latents", HostTensor>;
    const results = await run(compute(config), weights, { image, latents });
    for (const [name, expected] of Object.entries(select(io, "out."))) {
      expectOutput(name, results[name as keyof typeof results], expected);
    }
  });

  it("has diffusers' gradients by every parameter, the image and the latents", async () => {
    const { config, io, weights } = await load();
    const inputs = select(io, "in.") as Record<"image" | "latents" | "R_enc" | "R_dec", HostTensor>;
    const grads = await run(differentiate(config), weights, inputs);
    const references = { ...(await reference.tensors("grads.safetensors")), ...select(io, "grad.") };
    const largest = Math.max(...Object.values(references).map(maxAbs));
    expect(Object.keys(grads).sort()).toEqual(Object.keys(references).sort());
    for (const [name, expected] of Object.entries(references)) {
      if (backend.name === "onnx") expectGradient(name, grads[name], expected, largest);
      // tfjs puts one of the 2 million inputs of ReLUs, 9e-7 in size, on the other side of zero: all elements
      // behind it change a little, which the largest difference sees and the root mean square hardly does.
      else expect(relativeRms(grads[name] as HostTensor, expected), name).toBeLessThan(5e-3);
    }
  });

  it("halves and doubles once per stage but one, with channels of each stage's own", async () => {
    const config = parseAutoencoderTinyConfig({
      encoder_block_out_channels: [4, 6, 8],
      num_encoder_blocks: [1, 1, 2],
      decoder_block_out_channels: [8, 6, 4],
      num_decoder_blocks: [2, 1, 1],
    });
    const inputs = { image: HostTensor.filled([2, 3, 16, 8], 0.5), latents: HostTensor.filled([2, 4, 4, 2], 1) };
    const results = await run(compute(config), initialize(autoencoderTinyParameters(config), 1), inputs);
    expect(results.latents.shape).toEqual([2, 4, 4, 2]);
    expect(results.decoded.shape).toEqual([2, 3, 16, 8]);
  });

  it("says what shape it needs", async () => {
    const config = parseAutoencoderTinyConfig({});
    const inputs = { image: HostTensor.filled([1, 4, 8, 8], 0), latents: HostTensor.filled([1, 4, 1, 1], 0) };
    await expect(run(compute(config), {}, inputs)).rejects.toMatchObject({
      code: "SHAPE_MISMATCH",
      message: expect.stringContaining("[batch, 3, height, width], got [1, 4, 8, 8]"),
    });
  });
});
