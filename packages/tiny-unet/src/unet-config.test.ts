import { describe, expect, it } from "vitest";
import { sizeOf } from "@sdxs/tensor";
import { listShapes, readModelListing } from "@sdxs/tensor/testing";
import { parseUNetConfig, publishedUNets, unetEncoderParameters, unetParameters, type PublishedUNet } from "./index.js";

const listing = (name: string) => readModelListing(new URL(`../fixtures/full-models/${name}.json.gz`, import.meta.url));

describe("published U-Nets at full size", () => {
  // Totals computed by diffusers 0.27.2; those of the SDXS rows agree with the paper's 319 M and 0.74 B.
  it.each<[PublishedUNet, string, number]>([
    ["sd15", "sd15_unet", 859_520_964],
    ["sd21-base", "sd21_base_unet", 865_910_724],
    ["sdxl", "sdxl_base_unet", 2_567_463_684],
    ["sdxs-512", "sdxs_512_paper_unet_sd21", 318_695_364],
    ["sdxs-512-0.9", "sdxs_512_0.9_unet", 328_177_284],
    ["sdxs-512-dreamshaper", "sdxs_512_dreamshaper_unet", 315_746_244],
    ["sdxs-1024", "segmind_vega_unet", 745_225_604],
    ["bk-sdm-base", "bk_sdm_base_unet", 579_384_964],
    ["bk-sdm-small", "bk_sdm_small_unet", 482_346_884],
    ["bk-sdm-tiny", "bk_sdm_tiny_unet", 323_384_964],
  ])("%s has diffusers' configuration and exactly its parameters", async (name, file, total) => {
    const { config, parameters } = await listing(file);
    expect(publishedUNets[name]).toEqual(parseUNetConfig(config));
    const specs = unetParameters(publishedUNets[name]);
    expect(listShapes(specs)).toEqual(Object.fromEntries(parameters));
    expect(Object.values(specs).reduce((sum, { shape }) => sum + sizeOf(shape), 0)).toBe(total);
  });

  it("declares no parameter of an up stage for the encoder alone", async () => {
    const config = parseUNetConfig((await listing("sd21_base_unet")).config);
    const encoder = Object.keys(unetEncoderParameters(config));
    const rest = Object.keys(unetParameters(config)).filter((name) => !encoder.includes(name));
    expect(rest.every((name) => /^(up_blocks|conv_norm_out|conv_out)\./.test(name))).toBe(true);
    expect(encoder.filter((name) => name.startsWith("mid_block.")).length).toBeGreaterThan(0);
  });
});

describe("parseUNetConfig", () => {
  it("fills diffusers' defaults, which are Stable Diffusion 1's but for the context's 1280 features", () => {
    expect(parseUNetConfig({})).toMatchObject({
      block_out_channels: [320, 640, 1280, 1280],
      layers_per_block: 2,
      cross_attention_dim: 1280,
      attention_head_dim: 8,
      mid_block_type: "UNetMidBlock2DCrossAttn",
    });
  });

  it("gives the same configuration again when its result is written and read", async () => {
    const config = parseUNetConfig((await listing("sdxs_512_0.9_unet")).config);
    expect(parseUNetConfig(JSON.parse(JSON.stringify(config)))).toEqual(config);
  });

  it.each([
    ["resnet_time_scale_shift", "scale_shift"],
    ["class_embed_type", "projection"],
    ["num_class_embeds", 10],
    ["num_attention_heads", [5, 10, 20, 20]],
    ["down_block_types", ["AttnDownBlock2D"]],
    ["mid_block_type", "UNetMidBlock2DSimpleCrossAttn"],
    ["addition_embed_type", "image"],
    ["encoder_hid_dim_type", "ip_image_proj"],
    ["time_cond_proj_dim", "256"],
    ["block_out_channels", [320, "640"]],
    ["norm_num_groups", 33],
    ["attention_head_dim", [5, 10]],
    ["attention_head_dim", 7],
    ["transformer_layers_per_block", [1, [2, 2], 1, 1]],
    ["cross_attention_dim", [768, 1024, 768, 768]],
  ])("refuses %s: %j and names the field and its value", (field, value) => {
    const named = field === "transformer_layers_per_block" ? "reverse_transformer_layers_per_block" : field;
    expect(() => parseUNetConfig({ [field]: value })).toThrow(
      expect.objectContaining({ code: "UNSUPPORTED_CONFIG", message: expect.stringContaining(`"${named}"`) }),
    );
    if (named === field) {
      expect(() => parseUNetConfig({ [field]: value })).toThrow(
        expect.objectContaining({ message: expect.stringContaining(JSON.stringify(value)) }),
      );
    }
  });

  it("reads every field of diffusers but those that only what it refuses would look at", async () => {
    const { config } = await listing("sd15_unet"); // as diffusers 0.27.2 saves it, with all of its fields
    const silent = Object.keys(config as object).filter((field) => {
      try {
        parseUNetConfig({ ...(config as object), [field]: { no: "meaning" } });
        return true;
      } catch (error) {
        expect((error as Error).message).toContain(`"${field}"`);
        return false;
      }
    });
    // The second belongs to addition_embed_type "text", the third to UNetMidBlock2DSimpleCrossAttn: both are refused.
    expect(silent).toEqual(["_diffusers_version", "addition_embed_type_num_heads", "mid_block_only_cross_attention"]);
  });

  it("ignores fields that are not the model's, such as where it was loaded from", () => {
    const other = { _name_or_path: "stabilityai/stable-diffusion-2-1-base", _diffusers_version: "0.31.0", mine: 1 };
    const unknown: string[] = [];
    expect(parseUNetConfig(other, (fields) => unknown.push(...fields))).toEqual(parseUNetConfig({}));
    expect(unknown).toEqual(["mine"]);
  });

  it("refuses text_time without the numbers of its features", () => {
    expect(() => parseUNetConfig({ addition_embed_type: "text_time", addition_time_embed_dim: 256 })).toThrow(
      expect.objectContaining({
        code: "UNSUPPORTED_CONFIG",
        message: expect.stringContaining('"projection_class_embeddings_input_dim" is null'),
      }),
    );
  });

  it("refuses what is no object", () => {
    expect(() => parseUNetConfig("unet")).toThrow(expect.objectContaining({ code: "UNSUPPORTED_CONFIG" }));
  });
});
