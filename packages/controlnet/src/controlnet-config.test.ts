import { describe, expect, it } from "vitest";
import { sizeOf } from "@sdxs/tensor";
import { listShapes, readModelListing } from "@sdxs/tensor/testing";
import { controlNetParameters, parseControlNetConfig } from "./index.js";

const listing = (name: string) => readModelListing(new URL(`../fixtures/full-models/${name}.json.gz`, import.meta.url));

describe("parseControlNetConfig", () => {
  it("reads SDXS's sketch ControlNet, with exactly diffusers' 120,651,920 parameters", async () => {
    // Total computed by diffusers 0.27.2.
    const { config, parameters } = await listing("sdxs_dreamshaper_controlnet_midresnet");
    const specs = controlNetParameters(parseControlNetConfig(config));
    expect(listShapes(specs)).toEqual(Object.fromEntries(parameters));
    expect(Object.values(specs).reduce((sum, { shape }) => sum + sizeOf(shape), 0)).toBe(120_651_920);
  });

  it("fills diffusers' defaults, which are Stable Diffusion 1's but for the context's 1280 features", () => {
    expect(parseControlNetConfig({})).toMatchObject({
      block_out_channels: [320, 640, 1280, 1280],
      layers_per_block: 2,
      mid_block_type: "UNetMidBlock2DCrossAttn",
      cross_attention_dim: 1280,
      attention_head_dim: 8,
      conditioning_channels: 3,
      controlnet_conditioning_channel_order: "rgb",
      conditioning_embedding_out_channels: [16, 32, 96, 256],
      global_pool_conditions: false,
    });
  });

  it("gives the same configuration again when its result is written and read", async () => {
    const config = parseControlNetConfig((await listing("sdxs_dreamshaper_controlnet_midresnet")).config);
    expect(parseControlNetConfig(JSON.parse(JSON.stringify(config)))).toEqual(config);
  });

  it("prefers num_attention_heads to attention_head_dim, as diffusers does", () => {
    const config = parseControlNetConfig({ num_attention_heads: [5, 10, 20, 20], attention_head_dim: 64 });
    expect(config.attention_head_dim).toEqual([5, 10, 20, 20]);
  });

  it("has a transformer in the mid stage only under UNetMidBlock2DCrossAttn", () => {
    const midNames = (mid_block_type: string) =>
      Object.keys(controlNetParameters(parseControlNetConfig({ mid_block_type }))).filter((name) =>
        name.startsWith("mid_block."),
      );
    expect(midNames("UNetMidBlock2D").every((name) => name.startsWith("mid_block.resnets.0."))).toBe(true);
    expect(midNames("UNetMidBlock2DCrossAttn")).toContain("mid_block.attentions.0.proj_in.weight");
    expect(midNames("UNetMidBlock2DCrossAttn")).toContain("mid_block.resnets.1.conv1.weight");
  });

  it.each([
    ["_class_name", "UNet2DConditionModel"],
    ["act_fn", "relu"],
    ["class_embed_type", "projection"],
    ["num_class_embeds", 10],
    ["encoder_hid_dim_type", "text_proj"],
    ["addition_embed_type", "text"],
    ["resnet_time_scale_shift", "scale_shift"],
    ["mid_block_type", null],
    ["down_block_types", ["AttnDownBlock2D"]],
    ["down_block_types", ["DownBlock2D"]],
    ["layers_per_block", [2, 2, 2, 2]],
    ["attention_head_dim", 7],
    ["norm_num_groups", null],
    ["controlnet_conditioning_channel_order", "gbr"],
    ["conditioning_embedding_out_channels", null],
  ])("refuses %s: %j and names the field and its value", (field, value) => {
    const named = `ControlNetModel: "${field}" is ${JSON.stringify(value)}`;
    expect(() => parseControlNetConfig({ [field]: value })).toThrow(
      expect.objectContaining({ code: "UNSUPPORTED_CONFIG", message: expect.stringContaining(named) }),
    );
  });

  it("refuses text_time without the numbers of its features", () => {
    expect(() => parseControlNetConfig({ addition_embed_type: "text_time", addition_time_embed_dim: 256 })).toThrow(
      expect.objectContaining({
        code: "UNSUPPORTED_CONFIG",
        message: expect.stringContaining('"projection_class_embeddings_input_dim" is null'),
      }),
    );
  });
});
