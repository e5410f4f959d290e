import { mkdtempSync, rmSync } from "node:fs";
import { copyFile, cp, mkdir, mkdtemp, readFile, readdir, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, it } from "vitest";
import { planFromConfig } from "@sdxs/diffusion";
import { HostTensor, mapTensors, parseJson } from "@sdxs/tensor";
import { writeSafetensorsFile } from "@sdxs/tensor/node";
import { loadModel } from "./model-folder.js";
import { layOut, modelCases, readJson, type ModelCase } from "./model-folder.test-support.js";
import { loadPipelineFolder, savePipelineFolder } from "./pipeline-folder.js";
import type { PipelineWarning } from "./pipeline-warnings.js";

const root = mkdtempSync(join(tmpdir(), "sdxs-pipelines-"));
afterAll(() => rmSync(root, { recursive: true }));

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(root, "pipeline-"));
});

const [unet, controlNet, vaeKl, vaeTiny, textEncoder, textEncoderWithProjection] = modelCases;
const xlUnet = [
  "UNet2DConditionModel",
  "tiny-unet/fixtures/unet_sdxl_mini/config.json",
  "weights",
  "diffusion_pytorch_model",
] as const satisfies ModelCase;
const weights = "diffusion_pytorch_model.safetensors";

/** As in the release of SDXS-512-DreamShaper. */
const scheduler = {
  _class_name: "DEISMultistepScheduler",
  beta_start: 0.00085,
  beta_end: 0.012,
  beta_schedule: "scaled_linear",
  num_train_timesteps: 1000,
  skip_prk_steps: true,
};

/** DPMSolverMultistepScheduler().save_pretrained(...) of diffusers 0.27.2, shortened. */
const dpmSolverConfig = `{
  "_class_name": "DPMSolverMultistepScheduler",
  "_diffusers_version": "0.27.2",
  "algorithm_type": "dpmsolver++",
  "beta_end": 0.02,
  "beta_schedule": "linear",
  "beta_start": 0.0001,
  "final_sigmas_type": "zero",
  "lambda_min_clipped": -Infinity,
  "num_train_timesteps": 1000,
  "solver_order": 2,
  "trained_betas": null,
  "variance_type": null
}
`;

/** model_index.json of stabilityai/stable-diffusion-2-1, as diffusers 0.8 wrote it, but for scheduler and VAE. */
const index = {
  _class_name: "StableDiffusionPipeline",
  _diffusers_version: "0.8.0",
  feature_extractor: ["transformers", "CLIPFeatureExtractor"],
  safety_checker: [null, null],
  scheduler: ["diffusers", "DEISMultistepScheduler"],
  text_encoder: ["transformers", "CLIPTextModel"],
  tokenizer: ["transformers", "CLIPTokenizer"],
  unet: ["diffusers", "UNet2DConditionModel"],
  vae: ["diffusers", "AutoencoderTiny"],
  requires_safety_checker: false,
};

/** model_index.json of stabilityai/stable-diffusion-xl-base-1.0, but for the scheduler. */
const xlIndex = {
  _class_name: "StableDiffusionXLPipeline",
  _diffusers_version: "0.22.0.dev0",
  force_zeros_for_empty_prompt: true,
  scheduler: ["diffusers", "DEISMultistepScheduler"],
  text_encoder: ["transformers", "CLIPTextModel"],
  text_encoder_2: ["transformers", "CLIPTextModelWithProjection"],
  tokenizer: ["transformers", "CLIPTokenizer"],
  tokenizer_2: ["transformers", "CLIPTokenizer"],
  unet: ["diffusers", "UNet2DConditionModel"],
  vae: ["diffusers", "AutoencoderKL"],
};

const vocab = { "!": 0, a: 1, "!</w>": 2, "a</w>": 3, aa: 4, "aa</w>": 5, "<|startoftext|>": 6, "<|endoftext|>": 7 };
const markers = { bos_token: "<|startoftext|>", eos_token: "<|endoftext|>", unk_token: "<|endoftext|>" };

const writeJson = (path: string, value: unknown): Promise<void> => writeFile(join(folder, path), JSON.stringify(value));

async function layOutTokenizer(name: string, padding: string): Promise<void> {
  await mkdir(join(folder, name), { recursive: true });
  await writeJson(`${name}/vocab.json`, vocab);
  await writeFile(join(folder, name, "merges.txt"), "#version: 0.2\na a</w>\n");
  await writeJson(`${name}/tokenizer_config.json`, { ...markers, model_max_length: 77, pad_token: "<|endoftext|>" });
  await writeJson(`${name}/special_tokens_map.json`, { ...markers, pad_token: padding });
}

/** A pipeline as diffusers saves it, made of reference models. */
async function layOutPipeline(json: Record<string, unknown>, models: Record<string, ModelCase>): Promise<void> {
  await writeJson("model_index.json", json);
  await mkdir(join(folder, "scheduler"));
  await writeJson("scheduler/scheduler_config.json", scheduler);
  await layOutTokenizer("tokenizer", "<|endoftext|>");
  for (const [name, golden] of Object.entries(models)) await layOut(join(folder, name), golden);
}

const layOutSdxs = (): Promise<void> => layOutPipeline(index, { text_encoder: textEncoder, unet, vae: vaeTiny });

async function layOutXl(): Promise<void> {
  await layOutPipeline(xlIndex, {
    text_encoder: textEncoder,
    text_encoder_2: textEncoderWithProjection,
    unet: xlUnet,
    vae: vaeKl,
  });
  await layOutTokenizer("tokenizer_2", "!");
}

describe("loadPipelineFolder", () => {
  it("loads every component that it knows and names those that it skips", async () => {
    await layOutSdxs();
    const { className, components, otherFields, skipped } = await loadPipelineFolder(folder);
    expect(className).toBe("StableDiffusionPipeline");
    expect(Object.keys(components).sort()).toEqual(["scheduler", "text_encoder", "tokenizer", "unet", "vae"]);
    expect(components.unet).toEqual(await loadModel(join(folder, "unet")));
    expect(components.vae).toEqual(await loadModel(join(folder, "vae")));
    expect(components.text_encoder).toEqual(await loadModel(join(folder, "text_encoder")));
    expect(components.tokenizer?.encodeBatch(["aa a"], 6).data).toEqual(Int32Array.of(6, 5, 3, 7, 7, 7));
    expect(components.scheduler).toEqual(scheduler);
    expect(otherFields).toEqual({ requires_safety_checker: false });
    expect(skipped).toEqual(["feature_extractor"]);
  });

  it("gives the scheduler as planFromConfig takes it, of the class that model_index.json names", async () => {
    await layOutSdxs();
    await writeJson("scheduler/scheduler_config.json", { ...scheduler, _class_name: "PNDMScheduler" });
    const { components, skipped } = await loadPipelineFolder(folder, { only: ["scheduler"] });
    expect(planFromConfig(components.scheduler, 1)).toEqual(planFromConfig(scheduler, 1));
    expect(Object.keys(components)).toEqual(["scheduler"]);
    expect(skipped).toEqual(["feature_extractor", "text_encoder", "tokenizer", "unet", "vae"]);
  });

  it("reads the numbers that Python's JSON has and JSON.parse refuses, and writes them back", async () => {
    await layOutSdxs();
    const path = join(folder, "scheduler/scheduler_config.json");
    await writeFile(path, dpmSolverConfig);
    await writeJson("model_index.json", { ...index, scheduler: ["diffusers", "DPMSolverMultistepScheduler"] });
    const { components } = await loadPipelineFolder(folder);
    expect(components.scheduler).toMatchObject({ lambda_min_clipped: -Infinity, solver_order: 2 });
    const saved = join(folder, "saved");
    await savePipelineFolder(saved, { components });
    // As diffusers 0.27.2 reads it: null would fail in its comparison with the schedule.
    const text = await readFile(join(saved, "scheduler/scheduler_config.json"), "utf8");
    expect(text).toContain('"lambda_min_clipped": -Infinity,');
    expect(parseJson(text, "saved")).toEqual(parseJson(dpmSolverConfig, "diffusers"));
  });

  it("says where a configuration is broken", async () => {
    await layOutSdxs();
    await writeFile(join(folder, "unet/config.json"), '{\n  "sample_size": 64\n  "in_channels": 4\n}\n');
    await expect(loadPipelineFolder(folder)).rejects.toMatchObject({
      code: "MALFORMED_FILE",
      message: expect.stringContaining(
        `${join(folder, "unet/config.json")} is not JSON: at line 3, column 3, expected "," or "}", got "\\"in_channels`,
      ),
    });
  });

  it("loads Stable Diffusion XL's two text encoders, whose tokenizers pad differently", async () => {
    await layOutXl();
    const { components, otherFields } = await loadPipelineFolder(folder);
    expect(components.text_encoder?.className).toBe("CLIPTextModel");
    expect(components.text_encoder_2?.className).toBe("CLIPTextModelWithProjection");
    expect(components.text_encoder_2?.params).toHaveProperty(["text_projection.weight"]);
    expect([components.tokenizer?.paddingId, components.tokenizer_2?.paddingId]).toEqual([7, 0]);
    expect(otherFields).toEqual({ force_zeros_for_empty_prompt: true });
  });

  it("gives the pipeline's own settings with its components, and saves them", async () => {
    await layOutXl();
    await writeJson("model_index.json", { ...xlIndex, force_zeros_for_empty_prompt: false });
    const { components } = await loadPipelineFolder(folder);
    expect(components.settings).toEqual({ force_zeros_for_empty_prompt: false });
    const saved = join(folder, "saved");
    await savePipelineFolder(saved, { components });
    expect(await readJson(join(saved, "model_index.json"))).toMatchObject({ force_zeros_for_empty_prompt: false });
  });

  it("warns of fields that are ignored, and of components that are not run", async () => {
    await layOutSdxs();
    const checker = ["stable_diffusion", "StableDiffusionSafetyChecker"];
    await writeJson("model_index.json", { ...index, safety_checker: checker, requires_aesthetics_score: true });
    await writeJson("unet/config.json", { ...(await readJson(join(folder, "unet/config.json"))), magic: 1 });
    const warnings: PipelineWarning[] = [];
    await loadPipelineFolder(folder, { onWarning: (warning) => warnings.push(warning) });
    const place = join(folder, "model_index.json");
    expect(warnings).toEqual([
      {
        code: "UNKNOWN_FIELD",
        message: `${folder}/unet/config.json: a UNet2DConditionModel has no "magic"; ignored, as in diffusers.`,
      },
      {
        code: "UNUSED_COMPONENT",
        message: `${place}: the pipeline's feature_extractor, safety_checker are not run here. No picture is checked for what it shows.`,
      },
      { code: "UNKNOWN_FIELD", message: `${place}: "requires_aesthetics_score" has no effect here.` },
    ]);
  });

  it("refuses for the purpose of drawing what cannot draw, before it reads weights", async () => {
    await layOutXl();
    await expect(loadPipelineFolder(folder, { purpose: "text-to-image" })).rejects.toMatchObject({
      code: "UNSUPPORTED_CONFIG", // the reference models were not made for each other
      message: expect.stringMatching(/^loadPipelineFolder: the U-Net (attends to|takes) \d+ /),
    });
    await expect(
      loadPipelineFolder(folder, { purpose: "text-to-image", except: ["vae", "text_encoder_2"] }),
    ).rejects.toThrow(
      /^loadPipelineFolder: a pipeline with this U-Net .* also needs the components vae, text_encoder_2\./,
    );
    expect((await loadPipelineFolder(folder, { except: ["unet"] })).skipped).toEqual(["unet"]);
  });

  it("reads one ControlNet, or several in numbered folders", async () => {
    await layOutSdxs();
    await writeJson("model_index.json", { ...index, controlnet: ["diffusers", "ControlNetModel"] });
    await layOut(join(folder, "controlnet"), controlNet);
    await cp(join(folder, "controlnet"), join(folder, "controlnet_1"), { recursive: true });
    const first = await loadModel(join(folder, "controlnet"), { className: "ControlNetModel" });
    const second = { ...first, params: mapTensors(first.params, ({ shape }) => HostTensor.filled(shape, 2)) };
    await writeSafetensorsFile(join(folder, "controlnet_1", weights), second.params);
    const load = async () => (await loadPipelineFolder(folder, { only: ["controlnet"] })).components.controlnet;
    expect(await load()).toEqual([first]);
    // The pipelines' own module in diffusers up to 0.31, its models later.
    for (const library of ["controlnet", "diffusers"]) {
      await writeJson("model_index.json", { ...index, controlnet: [library, "MultiControlNetModel"] });
      expect(await load()).toEqual([first, second]);
    }
  });

  it("reads a variant where it is asked for, or where there is no other", async () => {
    await layOutSdxs();
    const { components } = await loadPipelineFolder(folder, { only: ["unet", "vae"] });
    await rename(join(folder, "unet", weights), join(folder, "unet/diffusion_pytorch_model.fp16.safetensors"));
    expect((await loadPipelineFolder(folder, { only: ["unet", "vae"] })).components).toEqual(components);
    const warnings: PipelineWarning[] = [];
    const onWarning = (warning: PipelineWarning) => warnings.push(warning);
    const mixed = await loadPipelineFolder(folder, { only: ["unet", "vae"], variant: "fp16", onWarning });
    expect(mixed.components).toEqual(components); // as diffusers falls back, component by component
    expect(warnings.filter(({ code }) => code === "OTHER_WEIGHTS")).toEqual([
      { code: "OTHER_WEIGHTS", message: expect.stringContaining(`${folder}/vae has no weights of the variant "fp16"`) },
    ]);
    await expect(loadPipelineFolder(folder, { only: ["unet", "vae"], variant: "bf16" })).rejects.toMatchObject({
      code: "MISSING_FILE",
      message: expect.stringMatching(/problems: 2[^]*vae has no diffusion_pytorch_model\.bf16\.safetensors/),
    });
    await copyFile(join(folder, "vae", weights), join(folder, "vae/diffusion_pytorch_model.fp16.safetensors"));
    const half = await loadPipelineFolder(folder, { only: ["unet", "vae"], variant: "fp16" });
    expect(half.components).toEqual(components);
  });

  it("lists all that is missing or does not fit, of all components at once", async () => {
    await layOutXl();
    await rm(join(folder, "vae"), { recursive: true });
    await rm(join(folder, "tokenizer_2/merges.txt"));
    await writeFile(join(folder, "scheduler/scheduler_config.json"), "[]");
    await writeJson("model_index.json", { ...xlIndex, text_encoder: ["transformers", "T5EncoderModel"] });
    await writeSafetensorsFile(join(folder, "unet", weights), { surplus: HostTensor.scalar(1) });
    const refusal = loadPipelineFolder(folder);
    await expect(refusal).rejects.toMatchObject({ code: "MALFORMED_FILE" }); // the first one's
    const message = await refusal.then(String, String);
    for (const problem of [
      `loadPipelineFolder: ${folder} cannot be loaded (problems: 5):`,
      `\n- ${folder}/scheduler/scheduler_config.json must hold an object`,
      `\n- ${folder}/tokenizer_2 has neither vocab.json and merges.txt nor tokenizer.json`,
      `\n- ${folder}/text_encoder is of the class "T5EncoderModel"; supported: CLIPTextModel, CLIPTextModelWithProjection.`,
      `\n- ${folder}/unet: The weights do not fit the model`,
      `\n    missing: conv_in.weight`,
      `\n    unexpected: surplus`,
      `\n- There is no ${folder}/vae/config.json`,
      `\nFetch what is missing, or leave these components out by the option only.`,
    ]) {
      expect(message).toContain(problem);
    }
    expect((await loadPipelineFolder(folder, { only: ["tokenizer"] })).components.tokenizer.endId).toBe(7);
  });

  it("refuses what is no pipeline's folder, and components that there are not, and says what to do", async () => {
    await layOutSdxs();
    const refused = (path: string, code: string, message: RegExp): Promise<void> =>
      expect(loadPipelineFolder(path)).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
    await refused(join(folder, "unet"), "MISSING_FILE", /is the folder of one model, .* Load it by loadModel/);
    await refused(join(folder, "tokenizer"), "MISSING_FILE", /There is no .*model_index\.json/);
    await refused(join(folder, "nowhere"), "MISSING_FILE", /There is no folder at/);
    await expect(loadPipelineFolder(folder, { only: ["controlnet"] })).rejects.toMatchObject({
      code: "MISSING_FILE",
      message: expect.stringContaining("has no controlnet; it has feature_extractor, scheduler, text_encoder"),
    });
    await expect(loadPipelineFolder(folder, { only: ["u_net" as "unet"] })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringMatching(/only must list some of scheduler, .*; got "u_net"/),
    });
    await writeJson("model_index.json", { unet: index.unet });
    await refused(folder, "MALFORMED_FILE", /must name the pipeline's class by "_class_name"/);
    await writeFile(join(folder, "model_index.json"), "{");
    await refused(folder, "MALFORMED_FILE", /model_index\.json is not JSON/);
  });
});

describe("savePipelineFolder", () => {
  it("writes the folders and the model_index.json of diffusers, and what it writes is loaded the same", async () => {
    await layOutSdxs();
    const loaded = await loadPipelineFolder(folder);
    const saved = join(folder, "saved");
    await savePipelineFolder(saved, loaded);
    expect(await readJson(join(saved, "model_index.json"))).toEqual({
      ...index,
      _diffusers_version: "0.27.2",
      feature_extractor: [null, null],
    });
    expect((await readdir(saved, { recursive: true })).sort()).toEqual([
      "model_index.json",
      "scheduler",
      "scheduler/scheduler_config.json",
      "text_encoder",
      "text_encoder/config.json",
      "text_encoder/model.safetensors",
      "tokenizer",
      "tokenizer/merges.txt",
      "tokenizer/special_tokens_map.json",
      "tokenizer/tokenizer_config.json",
      "tokenizer/vocab.json",
      "unet",
      `unet/config.json`,
      `unet/${weights}`,
      "vae",
      "vae/config.json",
      `vae/${weights}`,
    ]);
    const again = await loadPipelineFolder(saved);
    expect(again.skipped).toEqual([]);
    expect(again.components.unet).toEqual(loaded.components.unet);
    expect(again.components.vae).toEqual(loaded.components.vae);
    expect(again.components.text_encoder?.params).toEqual(loaded.components.text_encoder?.params);
    expect(again.components.scheduler).toEqual(scheduler);
    expect(again.components.tokenizer?.files).toEqual({
      ...loaded.components.tokenizer?.files,
      tokenizerConfig: { ...loaded.components.tokenizer?.files.tokenizerConfig, tokenizer_class: "CLIPTokenizer" },
    });
  });

  it("writes Stable Diffusion XL's", async () => {
    await layOutXl();
    const saved = join(folder, "saved");
    await savePipelineFolder(saved, await loadPipelineFolder(folder), { dtype: "F16" });
    expect(await readJson(join(saved, "model_index.json"))).toEqual({ ...xlIndex, _diffusers_version: "0.27.2" });
    expect(await readJson(join(saved, "tokenizer_2/special_tokens_map.json"))).toEqual({ ...markers, pad_token: "!" });
    expect(await readJson(join(saved, "text_encoder_2/config.json"))).toMatchObject({ torch_dtype: "float16" });
    const { components } = await loadPipelineFolder(saved);
    expect(components.tokenizer_2?.paddingId).toBe(0);
  });

  it("names the pipeline by its components where it begins here, and numbers ControlNets", async () => {
    await layOutSdxs();
    const { components } = await loadPipelineFolder(folder);
    await layOut(join(folder, "other"), controlNet);
    const net = await loadModel(join(folder, "other"), { className: "ControlNetModel" });
    const saved = join(folder, "saved");
    for (const count of [3, 2]) {
      const controlnet = new Array<typeof net>(count).fill(net);
      await savePipelineFolder(saved, { components: { ...components, controlnet } });
      expect((await loadPipelineFolder(saved, { only: ["controlnet"] })).components.controlnet).toEqual(controlnet);
    }
    expect(await readJson(join(saved, "model_index.json"))).toMatchObject({
      _class_name: "StableDiffusionControlNetPipeline",
      controlnet: ["controlnet", "MultiControlNetModel"],
    });
    await savePipelineFolder(saved, { components: { ...components, controlnet: [net] } });
    expect(await readJson(join(saved, "model_index.json"))).toMatchObject({
      controlnet: ["diffusers", "ControlNetModel"],
    });
    expect((await loadPipelineFolder(saved)).components.controlnet).toEqual([net]);
  });

  it("refuses what from_pretrained would, and writes nothing", async () => {
    await layOutSdxs();
    const { components } = await loadPipelineFolder(folder);
    const { tokenizer: _, scheduler: __, ...rest } = components;
    const saved = join(folder, "saved");
    await expect(savePipelineFolder(saved, { components: rest })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringContaining("also needs scheduler, tokenizer."),
    });
    const { "decoder.layers.0.bias": ___, ...params } = components.vae?.params ?? {};
    const vae = { ...components.vae!, params };
    await expect(savePipelineFolder(saved, { components: { ...components, vae } })).rejects.toMatchObject({
      code: "MISSING_PARAMETER",
      message: expect.stringContaining(`${saved}/vae: The weights do not fit`),
    });
    await expect(readdir(saved)).rejects.toMatchObject({ code: "ENOENT" });
  });
});
