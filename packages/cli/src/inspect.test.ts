import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { saveModel } from "@sdxs/runtime/node";
import { sizeOf, type HostParams } from "@sdxs/tensor";
import { totalCost, unetCosts } from "@sdxs/tiny-unet";
import { expect, it } from "vitest";
import { tinyPipeline } from "../../runtime/src/pipeline/tiny-pipeline.test-support.js";
import { inspectFolder } from "./inspect-folder.js";
import { folderWithModel, sdxs } from "./sdxs.test-support.js";

const { folder, model } = folderWithModel();

const parametersOf = (params: HostParams): number =>
  Object.values(params).reduce((sum, { shape }) => sum + sizeOf(shape), 0);
const stored = (params: HostParams) => {
  const parameters = parametersOf(params);
  return { parameters, bytes: 4 * parameters, dtypes: { F32: parameters } };
};
const { unet, text_encoder: textEncoder, vae, scheduler } = tinyPipeline;

it("lists what a pipeline is made of", async () => {
  const { exitCode, out } = await sdxs(["inspect", model, "--json"]);
  expect(exitCode).toBe(0);
  expect(JSON.parse(out.join("\n"))).toEqual([
    { name: "scheduler", className: scheduler._class_name, config: scheduler },
    {
      name: "text_encoder",
      className: "CLIPTextModel",
      ...stored(textEncoder.params),
      // 6 tokens of 8 features: four projections, both products of attention, two layers to and from 16 features.
      multiplyAdds: 4 * 6 * 8 * 8 + 2 * 6 * 6 * 8 + 2 * 6 * 8 * 16,
      config: expect.objectContaining({ hidden_size: 8 }),
    },
    { name: "tokenizer", className: "CLIPTokenizer", config: expect.objectContaining({ model_max_length: 6 }) },
    {
      name: "unet",
      className: "UNet2DConditionModel",
      ...stored(unet.params),
      multiplyAdds: totalCost(unetCosts(unet.config, { height: 4, width: 6, tokens: 6 })).multiplyAdds,
      config: expect.objectContaining({ sample_size: [4, 6] }),
    },
    {
      name: "vae",
      className: "AutoencoderTiny",
      ...stored(vae.params),
      // 3x3 convolutions between 4 channels: four on 4 x 6 latents, four on 8 x 12 pixels; and one to 3 colours.
      multiplyAdds: 4 * 24 * 4 * 36 + 4 * 96 * 4 * 36 + 96 * 3 * 36,
      config: expect.objectContaining({ latent_channels: 4 }),
    },
  ]);
});

it("shows it as a table", async () => {
  const { out } = await sdxs(["inspect", model]);
  expect(out).toHaveLength(6);
  expect(out[0]).toMatch(/^component +class +parameters +stored +multiply-adds$/);
  expect(out[1]).toMatch(/^scheduler +DEISMultistepScheduler +- +- +-$/);
  const [parameters, bytes] = [parametersOf(vae.params), 4 * parametersOf(vae.params)].map(
    (value) => `${Number((value / 1000).toPrecision(3))} k`,
  );
  expect(out[5]).toMatch(new RegExp(`^vae +AutoencoderTiny +${parameters} +F32, ${bytes}B +79.5 k$`));
});

it("inspects one model, and one file", async () => {
  const { multiplyAdds } = totalCost(unetCosts(unet.config, { height: 4, width: 6 })); // with CLIP's 77 tokens
  expect(await inspectFolder(join(model, "unet"))).toMatchObject([
    { name: "", className: "UNet2DConditionModel", multiplyAdds },
  ]);
  const file = join(model, "unet", "diffusion_pytorch_model.safetensors");
  const { out } = await sdxs(["inspect", file, "--json"]);
  expect(JSON.parse(out[0]!)).toEqual([{ name: file, ...stored(unet.params) }]);
});

it("lists models that sdxs cannot run", async () => {
  const strange = join(folder, "strange");
  await saveModel(strange, unet, { dtype: "F16" });
  for (const config of [{ _class_name: "UNet2DConditionModel", act_fn: "tan" }, { _class_name: "FluxTransformer" }]) {
    await writeFile(join(strange, "config.json"), JSON.stringify(config));
    const [found] = await inspectFolder(strange);
    expect(found).toMatchObject({ className: config._class_name, dtypes: { F16: parametersOf(unet.params) } });
    expect(found?.multiplyAdds).toBeUndefined();
  }
  await rm(strange, { recursive: true });
});

it.each([
  ["nowhere", /MISSING_FILE: There is no folder at .*nowhere/],
  ["", /MISSING_FILE: .* holds neither a model nor a pipeline/],
  ["none.safetensors", /MISSING_FILE: There is no file at .*none.safetensors/],
])("says that there is nothing at %j", async (name, message) => {
  const empty = join(folder, "empty");
  await mkdir(empty, { recursive: true });
  expect(await sdxs(["inspect", join(empty, name)])).toMatchObject({
    exitCode: 1,
    notes: [expect.stringMatching(message)],
  });
});

it("says that a file is none that it inspects", async () => {
  const file = join(folder, "sd.ckpt");
  await writeFile(file, "PK");
  expect(await sdxs(["inspect", file])).toMatchObject({
    exitCode: 1,
    notes: [expect.stringMatching(/UNSUPPORTED_OPERATION: .*sd\.ckpt is a file, of which only those of safetensors/)],
  });
});
