import { beforeAll, describe, expect, it } from "vitest";
import { HostTensor, initialize, scope, type Ops, type TensorMap } from "@sdxs/tensor";
import {
  expectCase,
  expectOutput,
  listShapes,
  readModelListing,
  referenceCase,
  testBackends,
  type RunOnce,
} from "@sdxs/tensor/testing";
import {
  autoencoderKlParameters,
  autoencoderKlPresets,
  decodeKl,
  fromDiffusionLatents,
  fromFormerKlNames,
  klDecoderParameters,
  parseAutoencoderKlConfig,
  toDiffusionLatents,
} from "./index.js";
import { checkAutoencoderKlCase, computeKl } from "./autoencoder-cases.test-support.js";

/** Reference data computed by diffusers 0.27.2: see fixtures/README.md. */
const reference = referenceCase(new URL("../fixtures/vae_kl_mini/", import.meta.url));

describe("published AutoencoderKL at full size", () => {
  it("has exactly diffusers' parameters", async () => {
    const file = new URL("../fixtures/full-models/autoencoder_kl.json.gz", import.meta.url);
    const { config, parameters } = await readModelListing(file);
    expect(listShapes(autoencoderKlParameters(parseAutoencoderKlConfig(config)))).toEqual(
      Object.fromEntries(parameters),
    );
    // SDXL's differs by its scaling factor alone: https://huggingface.co/stabilityai/sdxl-vae, config.json.
    expect(autoencoderKlPresets.sd).toEqual(parseAutoencoderKlConfig(config));
    expect(autoencoderKlPresets.sdxl).toEqual(
      parseAutoencoderKlConfig({ ...(config as object), scaling_factor: 0.13025 }),
    );
  });
});

describe("fromFormerKlNames", () => {
  it("renames the attention's projections of the VAEs of SD 1, and nothing else", async () => {
    const file = new URL("../fixtures/full-models/autoencoder_kl.json.gz", import.meta.url);
    const present = Object.fromEntries((await readModelListing(file)).parameters);
    // The names in https://huggingface.co/stabilityai/sd-vae-ft-mse, diffusion_pytorch_model.safetensors.
    const former = Object.fromEntries(
      Object.entries(present).map(([name, shape]) => [
        name
          .replace(".to_q.", ".query.")
          .replace(".to_k.", ".key.")
          .replace(".to_v.", ".value.")
          .replace(".to_out.0.", ".proj_attn."),
        shape,
      ]),
    );
    expect(former).toHaveProperty(["decoder.mid_block.attentions.0.proj_attn.bias"]);
    expect(fromFormerKlNames(former)).toEqual(present);
    expect(fromFormerKlNames(present)).toEqual(present);
  });
});

describe("parseAutoencoderKlConfig", () => {
  it.each([
    ["down_block_types", ["AttnDownEncoderBlock2D"]],
    ["up_block_types", ["UpDecoderBlock2D", "UpDecoderBlock2D"]],
    ["latents_mean", [0, 0, 0, 0]],
    ["act_fn", "relu"],
    ["norm_num_groups", 48],
  ])("refuses %s: %j and names the field and its value", (field, value) => {
    expect(() => parseAutoencoderKlConfig({ [field]: value })).toThrow(
      expect.objectContaining({
        code: "UNSUPPORTED_CONFIG",
        message: expect.stringContaining(`"${field}" is ${JSON.stringify(value)}`),
      }),
    );
  });
});

describe.each(testBackends)("AutoencoderKL on $name", (backend) => {
  let run: RunOnce;
  beforeAll(async () => {
    run = await backend.run();
  });

  it("has diffusers' posterior, samples, images, features and gradient", async () => {
    expectCase(await checkAutoencoderKlCase(reference, run));
  });

  it("clamps the logarithm of the variance to [-30, 20]", async () => {
    const config = parseAutoencoderKlConfig({ block_out_channels: [4], norm_num_groups: 2, latent_channels: 1 });
    const weights: Record<string, HostTensor> = initialize(autoencoderKlParameters(config), 1);
    const inputs = {
      image: HostTensor.filled([1, 3, 2, 2], 0.5),
      latents: HostTensor.filled([1, 1, 2, 2], 0),
      noise: HostTensor.filled([1, 1, 2, 2], 0),
    };
    for (const [bias, expected] of [
      [100, 20],
      [-100, -30],
    ] as const) {
      const results = await run(
        computeKl(config),
        { ...weights, "quant_conv.bias": HostTensor.from([2], [0, bias]) },
        inputs,
      );
      expect([...results.logvar.data]).toEqual([expected, expected, expected, expected]);
    }
  });

  it("shifts and scales latents for the diffusion model, and back", async () => {
    // SD 3's: https://huggingface.co/stabilityai/stable-diffusion-3-medium-diffusers, vae/config.json.
    const sd3 = parseAutoencoderKlConfig({ scaling_factor: 1.5305, shift_factor: 0.0609 });
    const program = <T>(ops: Ops<T>, _: TensorMap<T>, { latents }: Readonly<Record<"latents", T>>) => {
      const scaled = toDiffusionLatents(ops, sd3, latents);
      return {
        scaled,
        back: fromDiffusionLatents(ops, sd3, scaled),
        unshifted: toDiffusionLatents(ops, sdxl, latents),
      };
    };
    const { sdxl } = autoencoderKlPresets;
    const { scaled, back, unshifted } = await run(program, {}, { latents: HostTensor.from([2], [1, -2]) });
    expectOutput("scaled", scaled, HostTensor.from([2], [(1 - 0.0609) * 1.5305, (-2 - 0.0609) * 1.5305]));
    expectOutput("back", back, HostTensor.from([2], [1, -2]));
    expectOutput("unshifted", unshifted, HostTensor.from([2], [0.13025, -0.2605]));
  });

  it("works without attention and without the 1x1 convolutions around the latents", async () => {
    const config = parseAutoencoderKlConfig({
      block_out_channels: [4, 8],
      down_block_types: ["DownEncoderBlock2D", "DownEncoderBlock2D"],
      up_block_types: ["UpDecoderBlock2D", "UpDecoderBlock2D"],
      norm_num_groups: 2,
      mid_block_add_attention: false,
      use_quant_conv: false,
      use_post_quant_conv: false,
    });
    const names = Object.keys(autoencoderKlParameters(config));
    expect(names.some((name) => /attentions|quant_conv/.test(name))).toBe(false);
    const program = <T>(ops: Ops<T>, params: TensorMap<T>, { latents }: Readonly<Record<"latents", T>>) => ({
      decoded: decodeKl(ops, scope(ops, params), config, latents),
    });
    const weights = initialize(klDecoderParameters(config), 1);
    const { decoded } = await run(program, weights, { latents: HostTensor.filled([2, 4, 3, 2], 1) });
    expect(decoded.shape).toEqual([2, 3, 6, 4]);
  });
});
