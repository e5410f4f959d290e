import { describe, expect, it } from "vitest";
import { initialize } from "@sdxs/tensor";
import { maxAbs } from "@sdxs/tensor/testing";
import { copyParameters, parseUNetConfig, planBlockRemoval, unetParameters } from "@sdxs/tiny-unet";
import { controlNetFromUNet, controlNetParameters } from "./index.js";

const narrow = { block_out_channels: [8, 16, 16], attention_head_dim: 2, norm_num_groups: 4, cross_attention_dim: 6 };
const unetConfig = parseUNetConfig({
  ...narrow,
  down_block_types: ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
  up_block_types: ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
});

describe("controlNetFromUNet", () => {
  it("copies the whole encoder, and initializes the condition's embedding and the zero convolutions", () => {
    const { config, copies, initialized } = controlNetFromUNet(unetConfig);
    const encoder = Object.keys(unetParameters(unetConfig)).filter(
      (name) => !/^(up_blocks|conv_norm_out|conv_out)\./.test(name),
    );
    expect(copies).toEqual(Object.fromEntries(encoder.map((name) => [name, name])));
    expect(initialized.every((name) => /^controlnet_(cond_embedding|down_blocks|mid_block)\./.test(name))).toBe(true);
    expect([...Object.keys(copies), ...initialized].sort()).toEqual(Object.keys(controlNetParameters(config)).sort());
    expect(config).toMatchObject({ ...narrow, mid_block_type: "UNetMidBlock2DCrossAttn", layers_per_block: 2 });
  });

  it("begins with zeros in what meets the U-Net, and with other numbers before", () => {
    const { config, initialized } = controlNetFromUNet(unetConfig);
    const weights = initialize(controlNetParameters(config), 1);
    const zero = initialized.filter((name) => maxAbs(weights[name]!) === 0);
    expect(zero).toEqual(
      initialized.filter((name) => /^controlnet_(down_blocks|mid_block|cond_embedding\.conv_out)\b/.test(name)),
    );
    // Weight and bias of one for each of the 9 skip connections, one for the mid stage, one behind the condition.
    expect(zero.length).toBe(2 * (9 + 1 + 1));
  });

  it("gives a U-Net without a mid stage one residual block there, as SDXS's sketch ControlNet has", () => {
    const student = planBlockRemoval(unetConfig, "sdxs-512").config;
    const { config, copies, initialized } = controlNetFromUNet(student);
    expect(config.mid_block_type).toBe("UNetMidBlock2D");
    expect(initialized).toContain("mid_block.resnets.0.conv1.weight");
    const values = Object.fromEntries(Object.keys(unetParameters(student)).map((name) => [name, `value of ${name}`]));
    expect(copyParameters({ copies }, values)["conv_in.weight"]).toBe("value of conv_in.weight");
  });

  it("takes the condition's fields and another mid stage", () => {
    const { config, copies } = controlNetFromUNet(unetConfig, {
      conditioning_channels: 1,
      conditioning_embedding_out_channels: [4, 8],
      mid_block_type: "UNetMidBlock2D",
    });
    expect(config).toMatchObject({ conditioning_channels: 1, mid_block_type: "UNetMidBlock2D" });
    expect(controlNetParameters(config)["controlnet_cond_embedding.blocks.1.weight"]?.shape).toEqual([8, 4, 3, 3]);
    expect(copies["mid_block.resnets.0.conv1.weight"]).toBe("mid_block.resnets.0.conv1.weight");
  });

  it("takes equal numbers of layers per level as one", () => {
    const { config } = controlNetFromUNet({ ...unetConfig, layers_per_block: [2, 2, 2] });
    expect(config.layers_per_block).toBe(2);
  });

  it.each([
    ["layers_per_block", [1, 2, 2]],
    ["conv_in_kernel", 5],
    ["time_embedding_dim", 64],
    ["center_input_sample", true],
  ])("refuses a U-Net with %s: %j, which no ControlNet has", (field, value) => {
    expect(() => controlNetFromUNet({ ...unetConfig, [field]: value })).toThrow(
      expect.objectContaining({
        code: "UNSUPPORTED_CONFIG",
        message: expect.stringContaining(`"${field}" is ${JSON.stringify(value)}`),
      }),
    );
  });
});
