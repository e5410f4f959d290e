import { describe, expect, it } from "vitest";
import { sizeOf } from "@sdxs/tensor";
import { listShapes, readModelListing } from "@sdxs/tensor/testing";
import {
  copyParameters,
  parseUNetConfig,
  planBlockRemoval,
  publishedUNets,
  unetParameters,
  type BlockRemoval,
  type BlockRemovalPreset,
} from "./index.js";

const listing = (name: string) => readModelListing(new URL(`../fixtures/full-models/${name}.json.gz`, import.meta.url));

describe("planBlockRemoval", () => {
  // Students as published: configurations and totals computed by diffusers 0.27.2.
  it.each<[BlockRemovalPreset, string, string, number]>([
    ["sdxs-512", "sd21_base_unet", "sdxs_512_paper_unet_sd21", 318_695_364],
    ["sdxs-512", "sd15_unet", "sdxs_512_dreamshaper_unet", 315_746_244],
    ["sdxs-512-0.9", "sd21_base_unet", "sdxs_512_0.9_unet", 328_177_284],
    ["sdxs-1024", "sdxl_base_unet", "segmind_vega_unet", 745_225_604],
    ["bk-sdm-base", "sd15_unet", "bk_sdm_base_unet", 579_384_964],
    ["bk-sdm-small", "sd15_unet", "bk_sdm_small_unet", 482_346_884],
    ["bk-sdm-tiny", "sd15_unet", "bk_sdm_tiny_unet", 323_384_964],
  ])("makes %s of %s into %s", async (preset, teacherName, studentName, total) => {
    const teacher = await listing(teacherName);
    const student = await listing(studentName);
    const plan = planBlockRemoval(parseUNetConfig(teacher.config), preset);
    expect(plan.config).toEqual(parseUNetConfig(student.config));
    const specs = unetParameters(plan.config);
    expect(listShapes(specs)).toEqual(Object.fromEntries(student.parameters));
    expect(Object.values(specs).reduce((sum, { shape }) => sum + sizeOf(shape), 0)).toBe(total);

    const teacherShapes = Object.fromEntries(teacher.parameters);
    for (const [name, source] of Object.entries(plan.copies)) {
      expect(teacherShapes[source], `${name} from ${source}`).toEqual(specs[name]?.shape);
    }
    expect([...Object.keys(plan.copies), ...plan.initialized].sort()).toEqual(Object.keys(specs).sort());
  });

  it("copies every parameter of SDXS-512 from SD 2.1: the first and the last residual block of each up stage", async () => {
    const { copies, initialized } = planBlockRemoval(
      parseUNetConfig((await listing("sd21_base_unet")).config),
      "sdxs-512",
    );
    expect(initialized).toEqual([]);
    expect(copies).toMatchObject({
      "conv_in.weight": "conv_in.weight",
      "down_blocks.2.resnets.0.conv_shortcut.weight": "down_blocks.2.resnets.0.conv_shortcut.weight",
      "up_blocks.0.resnets.0.conv1.weight": "up_blocks.1.resnets.0.conv1.weight",
      "up_blocks.0.resnets.1.conv1.weight": "up_blocks.1.resnets.2.conv1.weight",
      "up_blocks.0.attentions.1.proj_in.weight": "up_blocks.1.attentions.2.proj_in.weight",
      "up_blocks.0.upsamplers.0.conv.weight": "up_blocks.1.upsamplers.0.conv.weight",
      "up_blocks.2.resnets.1.conv1.weight": "up_blocks.3.resnets.2.conv1.weight",
    });
    expect(Object.values(copies).some((source) => /^(mid_block|up_blocks\.0|down_blocks\.3)\./.test(source))).toBe(
      false,
    );
  });

  it("pairs the features that BK-SDM pairs", async () => {
    const { features } = planBlockRemoval(parseUNetConfig((await listing("sd21_base_unet")).config), "sdxs-512");
    expect(features).toEqual([
      { teacher: "down_blocks.0", student: "down_blocks.0" },
      { teacher: "down_blocks.1", student: "down_blocks.1" },
      { teacher: "down_blocks.2.res.1", student: "down_blocks.2" },
      { teacher: "up_blocks.1", student: "up_blocks.0" },
      { teacher: "up_blocks.2", student: "up_blocks.1" },
      { teacher: "up_blocks.3", student: "up_blocks.2" },
    ]);
  });

  it("initializes anew only the keys and values that look at the text instead of at the image in SDXS-512-0.9", async () => {
    const { initialized } = planBlockRemoval(parseUNetConfig((await listing("sd21_base_unet")).config), "sdxs-512-0.9");
    expect(initialized.length).toBe(3 * 2); // one transformer down, two up, at the highest resolution
    expect(initialized.every((name) => /^(down_blocks\.0|up_blocks\.2)\..*attn1\.to_[kv]\.weight$/.test(name))).toBe(
      true,
    );
  });

  it("copies every parameter of SDXS-1024 from SDXL: the first transformer blocks, and the mid stage's first residual block", () => {
    const { copies, initialized, features } = planBlockRemoval(publishedUNets.sdxl, "sdxs-1024");
    expect(initialized).toEqual([]);
    expect(Object.entries(copies).every(([name, source]) => name === source)).toBe(true);
    const kept = (prefix: string) => Object.keys(copies).filter((name) => name.startsWith(prefix)).length > 0;
    expect(kept("down_blocks.2.attentions.1.transformer_blocks.1.")).toBe(true);
    expect(kept("down_blocks.2.attentions.1.transformer_blocks.2.")).toBe(false);
    expect(kept("mid_block.resnets.0.")).toBe(true);
    expect(kept("mid_block.attentions.0.")).toBe(false);
    const same = ["down_blocks.0", "down_blocks.1", "down_blocks.2", "mid_block"];
    expect(features.map(({ teacher }) => teacher)).toEqual([...same, "up_blocks.0", "up_blocks.1", "up_blocks.2"]);
    expect(features.every(({ teacher, student }) => teacher === student)).toBe(true);
  });

  it("takes a middle residual block where the first is too wide: SDXL without its lowest resolution", async () => {
    const teacher = parseUNetConfig((await listing("sdxl_base_unet")).config);
    const plan = planBlockRemoval(teacher, "bk-sdm-tiny");
    expect(plan.config).toMatchObject({ block_out_channels: [320, 640], transformer_layers_per_block: [1, 2] });
    expect(plan.copies["up_blocks.0.resnets.0.conv1.weight"]).toBe("up_blocks.1.resnets.1.conv1.weight");
    expect(plan.copies["up_blocks.0.resnets.1.conv1.weight"]).toBe("up_blocks.1.resnets.2.conv1.weight");
    expect(plan.initialized).toEqual([]);
  });

  it.each(Object.entries(publishedUNets))("keeps all of %s when nothing is to be removed", (_, teacher) => {
    const plan = planBlockRemoval(teacher, {});
    expect(plan.config).toEqual(teacher);
    expect(plan.copies).toEqual(Object.fromEntries(Object.keys(unetParameters(teacher)).map((name) => [name, name])));
    expect(plan.initialized).toEqual([]);
    expect(plan.features.every(({ teacher, student }) => teacher === student)).toBe(true);
  });

  const { sd15, "sd21-base": sd21, sdxl } = publishedUNets;

  it("takes numbers of residual blocks and of transformer blocks for each level", () => {
    const { config } = planBlockRemoval(sdxl, { layersPerBlock: [1, 2, 1], transformerLayers: [1, 0, 4] });
    expect(config).toMatchObject({
      layers_per_block: [1, 2, 1],
      down_block_types: ["DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"],
      mid_block_type: "UNetMidBlock2DCrossAttn",
      up_block_types: ["CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"],
      transformer_layers_per_block: [1, 2, 4],
      reverse_transformer_layers_per_block: null,
    });
    expect(planBlockRemoval(sdxl, { transformerLayers: 5 }).config.transformer_layers_per_block).toEqual([1, 2, 5]);
  });

  it("leaves levels that a list does not reach as they are", () => {
    const { config } = planBlockRemoval(sd15, { layersPerBlock: [1], onlyCrossAttention: [false, true] });
    expect(config.layers_per_block).toEqual([1, 2, 2, 2]);
    expect(config.only_cross_attention).toEqual([false, true, false, false]);
  });

  it("gives the up stages and each residual block other depths, as in SSD-1B", () => {
    const depths = { transformerLayers: [1, [2, 2], [4, 4]], upTransformerLayers: [1, [2, 1, 1], [4, 4, 10]] };
    const { config, initialized } = planBlockRemoval(sdxl, { midStage: "residual-block", ...depths });
    expect(config).toMatchObject({
      transformer_layers_per_block: [1, [2, 2], [4, 4]],
      reverse_transformer_layers_per_block: [[4, 4, 10], [2, 1, 1], 1],
    });
    expect(initialized).toEqual([]);

    // The first level has no transformers, so its list is not looked at.
    const ssd1b = { ...config, transformer_layers_per_block: [[1], [2, 2], [4, 4]] };
    expect(parseUNetConfig(ssd1b)).toEqual(ssd1b);
    expect(planBlockRemoval(ssd1b, {}).config).toEqual(ssd1b);

    const downOnly = planBlockRemoval(sd21, { transformerLayers: [0], upTransformerLayers: [] }).config;
    expect(downOnly.down_block_types[0]).toBe("DownBlock2D");
    expect(downOnly.up_block_types).toEqual(sd21.up_block_types);
  });

  // Parameters in millions from the models' cards.
  it.each<[string, BlockRemoval, number]>([
    ["KOALA-1B", { layersPerBlock: 1, transformerLayers: [1, 2, 6] }, 1161],
    ["KOALA-700M", { layersPerBlock: 1, midStage: "remove", transformerLayers: [1, 2, 5] }, 782],
  ])("makes SDXL as small as %s by a removal of one's own", (_, removal, millions) => {
    const specs = unetParameters(planBlockRemoval(sdxl, removal).config);
    expect(Math.floor(Object.values(specs).reduce((sum, { shape }) => sum + sizeOf(shape), 0) / 1e6)).toBe(millions);
  });

  it("removes every transformer, the mid stage's with those of the lowest level", () => {
    const { config, copies } = planBlockRemoval(sd21, { transformerLayers: 0 });
    expect(config.mid_block_type).toBe("UNetMidBlock2D");
    expect(Object.keys(copies).some((name) => name.includes("attentions"))).toBe(false);
  });

  it("removes several levels, and pairs no mid stage that then works on another resolution", () => {
    const { config, features } = planBlockRemoval(sd21, { removedLevels: 2 });
    expect(config).toMatchObject({ block_out_channels: [320, 640], attention_head_dim: [5, 10] });
    expect(features).toEqual([
      { teacher: "down_blocks.0", student: "down_blocks.0" },
      { teacher: "down_blocks.1.res.1", student: "down_blocks.1" },
      { teacher: "up_blocks.2", student: "up_blocks.0" },
      { teacher: "up_blocks.3", student: "up_blocks.1" },
    ]);
  });

  it("keeps the depths of the layers that stay where they are nested", () => {
    const teacher = parseUNetConfig({
      block_out_channels: [32, 64],
      down_block_types: ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
      up_block_types: ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
      transformer_layers_per_block: [1, [2, 3]],
      reverse_transformer_layers_per_block: [[4, 5, 6], 1],
    });
    const { config, initialized } = planBlockRemoval(teacher, { layersPerBlock: 1 });
    expect(config).toMatchObject({
      transformer_layers_per_block: [1, [2]],
      reverse_transformer_layers_per_block: [[4, 6], 1],
    });
    expect(initialized).toEqual([]);
  });

  it("refuses to remove the only level", () => {
    const teacher = parseUNetConfig({
      block_out_channels: [32],
      down_block_types: ["DownBlock2D"],
      up_block_types: ["UpBlock2D"],
    });
    expect(() => planBlockRemoval(teacher, "sdxs-512")).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
  });

  it.each<[BlockRemoval, string]>([
    [{ removedLevels: 4 }, "removedLevels must be a whole number from 0 to 3"],
    [{ removedLevels: 0.5 }, "got 0.5"],
    [{ layersPerBlock: 0 }, "layersPerBlock must hold whole numbers of at least 1, got 0"],
    [{ layersPerBlock: [1, 1, 1, 1, 1] }, "layersPerBlock has 5 values, but 4 levels stay"],
    [{ transformerLayers: [1, -1] }, "transformerLayers must hold whole numbers of at least 0, got -1"],
    [{ transformerLayers: [[1, 0]] }, "transformerLayers must hold whole numbers of at least 1, got 0"],
    [{ transformerLayers: [[1, 1, 1]] }, "[1, 1, 1] has 3 for 2"],
    [{ transformerLayers: [[1, 1]] }, "[1, 1] has 2 for 3"],
  ])("refuses %j and says what is wrong", (removal, message) => {
    expect(() => planBlockRemoval(sd15, removal)).toThrow(
      expect.objectContaining({ code: "INVALID_ARGUMENT", message: expect.stringContaining(message) }),
    );
  });

  it("lists the presets where there is none of a name", () => {
    expect(() => planBlockRemoval(sd15, "sdxs" as BlockRemovalPreset)).toThrow(
      /"sdxs"; there are sdxs-512, sdxs-512-0.9/,
    );
  });
});

describe("copyParameters", () => {
  const teacher = parseUNetConfig({ block_out_channels: [32, 32, 64, 64], norm_num_groups: 8 });
  const plan = planBlockRemoval(teacher, "sdxs-512");

  it("gives each student parameter the teacher's value under the student's name", () => {
    const values = Object.fromEntries(Object.keys(unetParameters(teacher)).map((name) => [name, `value of ${name}`]));
    expect(copyParameters(plan, values)["up_blocks.0.resnets.1.conv2.bias"]).toBe(
      "value of up_blocks.1.resnets.2.conv2.bias",
    );
    expect(Object.keys(copyParameters(plan, values))).toEqual(Object.keys(plan.copies));
  });

  it("lists what the teacher's weights lack", () => {
    expect(() => copyParameters(plan, {})).toThrow(
      expect.objectContaining({
        code: "MISSING_PARAMETER",
        message: expect.stringContaining("up_blocks.1.resnets.2.conv2.bias"),
      }),
    );
  });
});
