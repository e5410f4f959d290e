import { describe, expect, it } from "vitest";
import { sizeOf } from "@sdxs/tensor";
import { listShapes, readModelListing } from "@sdxs/tensor/testing";
import { copyParameters, parseUNetConfig, planBlockRemoval, unetParameters, type BlockRemovalPreset } from "./index.js";

const listing = (name: string) => readModelListing(new URL(`../fixtures/full-models/${name}.json.gz`, import.meta.url));

describe("planBlockRemoval", () => {
  // Students as published: configurations and totals computed by diffusers 0.27.2.
  it.each<[BlockRemovalPreset, string, string, number]>([
    ["sdxs", "sd21_base_unet", "sdxs_512_paper_unet_sd21", 318_695_364],
    ["sdxs", "sd15_unet", "sdxs_512_dreamshaper_unet", 315_746_244],
    ["sdxs-0.9", "sd21_base_unet", "sdxs_512_0.9_unet", 328_177_284],
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
    const { copies, initialized } = planBlockRemoval(parseUNetConfig((await listing("sd21_base_unet")).config), "sdxs");
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
    const { features } = planBlockRemoval(parseUNetConfig((await listing("sd21_base_unet")).config), "sdxs");
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
    const { initialized } = planBlockRemoval(parseUNetConfig((await listing("sd21_base_unet")).config), "sdxs-0.9");
    expect(initialized.length).toBe(3 * 2); // one transformer down, two up, at the highest resolution
    expect(initialized.every((name) => /^(down_blocks\.0|up_blocks\.2)\..*attn1\.to_[kv]\.weight$/.test(name))).toBe(
      true,
    );
  });

  it("takes a middle residual block where the first is too wide: SDXL without its lowest resolution", async () => {
    const teacher = parseUNetConfig((await listing("sdxl_base_unet")).config);
    const plan = planBlockRemoval(teacher, { layersPerBlock: 1, removeMidStage: true, removeLowestResolution: true });
    expect(plan.config).toMatchObject({ block_out_channels: [320, 640], transformer_layers_per_block: [1, 2] });
    expect(plan.copies["up_blocks.0.resnets.0.conv1.weight"]).toBe("up_blocks.1.resnets.1.conv1.weight");
    expect(plan.copies["up_blocks.0.resnets.1.conv1.weight"]).toBe("up_blocks.1.resnets.2.conv1.weight");
    expect(plan.initialized).toEqual([]);
  });

  it("keeps everything when nothing is to be removed", async () => {
    const teacher = parseUNetConfig((await listing("segmind_vega_unet")).config);
    const plan = planBlockRemoval(teacher, {});
    expect(plan.config).toEqual(teacher);
    expect(plan.copies).toEqual(Object.fromEntries(Object.keys(unetParameters(teacher)).map((name) => [name, name])));
    expect(plan.features).toContainEqual({ teacher: "mid_block", student: "mid_block" });
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

  it("refuses to remove the only resolution", () => {
    const teacher = parseUNetConfig({
      block_out_channels: [32],
      down_block_types: ["DownBlock2D"],
      up_block_types: ["UpBlock2D"],
    });
    expect(() => planBlockRemoval(teacher, "sdxs")).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
  });
});

describe("copyParameters", () => {
  const teacher = parseUNetConfig({ block_out_channels: [32, 32, 64, 64], norm_num_groups: 8 });
  const plan = planBlockRemoval(teacher, "sdxs");

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
