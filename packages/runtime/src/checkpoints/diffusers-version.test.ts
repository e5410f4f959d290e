import { mkdtempSync, rmSync } from "node:fs";
import { readFile, readdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { initialize } from "@sdxs/tensor";
import { autoencoderKlParameters, parseAutoencoderKlConfig } from "@sdxs/tiny-vae";
import { saveModel, type SaveModelOptions } from "./model-folder.js";
import { savePipelineFolder } from "./pipeline-folder.js";
import { tinyPipeline } from "../pipeline/tiny-pipeline.test-support.js";

const root = mkdtempSync(join(tmpdir(), "sdxs-version-"));
afterAll(() => rmSync(root, { recursive: true }));

const json = async (path: string): Promise<Record<string, unknown>> =>
  JSON.parse(await readFile(path, "utf8")) as Record<string, unknown>;

const small = { block_out_channels: [8], layers_per_block: 1, norm_num_groups: 4 };
const autoencoder = (fields: Readonly<Record<string, unknown>>) => {
  const config = parseAutoencoderKlConfig({ ...small, ...fields });
  return { className: "AutoencoderKL", config, params: initialize(autoencoderKlParameters(config), 1) } as const;
};

async function saved(
  fields: Readonly<Record<string, unknown>>,
  options?: SaveModelOptions,
): Promise<Record<string, unknown>> {
  const folder = join(mkdtempSync(join(root, "vae-")), "vae");
  await saveModel(folder, autoencoder(fields), options);
  return { ...(await json(join(folder, "config.json"))), files: (await readdir(folder)).length };
}

// In which release the signature of AutoencoderKL got a field: shift_factor, use_quant_conv and use_post_quant_conv in 0.29.0,
// mid_block_add_attention in 0.30.0. Models in shards are opened from 0.29.0 on.
describe("_diffusers_version is the least that knows what is written", () => {
  it("0.27.2, without later fields that change nothing", async () => {
    const written = await saved({});
    expect(written["_diffusers_version"]).toBe("0.27.2");
    for (const field of ["shift_factor", "use_quant_conv", "use_post_quant_conv", "mid_block_add_attention"]) {
      expect(written).not.toHaveProperty(field);
    }
  });

  it.each([
    [{ use_quant_conv: false, use_post_quant_conv: false }, "0.29.0"],
    [{ shift_factor: 0.1159 }, "0.29.0"],
    [{ mid_block_add_attention: false }, "0.30.0"],
    [{ mid_block_add_attention: false, shift_factor: 0.1159 }, "0.30.0"],
  ])("of %j: %s", async (fields, version) => {
    expect(await saved(fields)).toMatchObject({ ...fields, _diffusers_version: version });
  });

  it("in shards, which models have only where it is asked for", async () => {
    expect(await saved({}, { maxShardSize: 10_000 })).toMatchObject({ _diffusers_version: "0.29.0" });
    expect(await saved({}, { maxShardSize: 1e9 })).toMatchObject({ _diffusers_version: "0.27.2", files: 2 });
  });

  it("of a pipeline, that of its latest component", async () => {
    const versionWith = async (changed: Partial<typeof tinyPipeline>): Promise<unknown> => {
      const folder = mkdtempSync(join(root, "pipeline-"));
      await savePipelineFolder(folder, { components: { ...tinyPipeline, ...changed } });
      return (await json(join(folder, "model_index.json")))["_diffusers_version"];
    };
    expect(await versionWith({})).toBe("0.27.2");
    expect(await versionWith({ vae: autoencoder({ mid_block_add_attention: false }) })).toBe("0.30.0");
    const scheduler = { ...tinyPipeline.scheduler, use_beta_sigmas: true };
    expect(await versionWith({ scheduler })).toBe("0.31.0");
  });
});
