import { mkdtempSync, rmSync } from "node:fs";
import { copyFile, mkdir, mkdtemp, readdir, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as ort from "onnxruntime-node";
import { afterAll, beforeEach, describe, expect, it, vi } from "vitest";
import {
  HostTensor,
  decodeBfloat16,
  encodeBfloat16,
  initialize,
  mapTensors,
  random,
  scope,
  select,
  withGradients,
  type HostParams,
  type Program,
} from "@sdxs/tensor";
import { readSafetensorsFile, writeSafetensorsFile } from "@sdxs/tensor/node";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { parseUNetConfig, unet, unetParameters } from "@sdxs/tiny-unet";
import { modelClasses, type ModelClass, type ModelClassName, type ModelConfigs } from "./model-classes.js";
import { loadModel, saveModel } from "./model-folder.js";
import type { Model } from "./open-model.js";
import { layOut, modelCases, packages, readJson, weightsPath } from "./model-folder.test-support.js";

const root = mkdtempSync(join(tmpdir(), "sdxs-models-"));
afterAll(() => rmSync(root, { recursive: true }));

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(root, "model-"));
});

describe.each(modelCases)("a %s", (className, config, weights, stem) => {
  const golden = [className, config, weights, stem] as const;

  it("is loaded from a folder of its library and saved as such a folder again", async () => {
    const json = await layOut(folder, golden);
    const unknown = vi.fn();
    const model = await loadModel(folder, { onWarning: unknown });
    expect(unknown).not.toHaveBeenCalled(); // all that diffusers and transformers write is known
    expect(model.className).toBe(className);
    expect(model.config).toEqual(modelClasses[className].parse(json));
    const { tensors } = await readSafetensorsFile(weightsPath(config, weights));
    expect(model.params).toEqual(tensors);

    const saved = join(folder, "saved", className);
    await saveModel(saved, model);
    expect((await readdir(saved)).sort()).toEqual(["config.json", `${stem}.safetensors`]);
    const file = await readSafetensorsFile(join(saved, `${stem}.safetensors`));
    expect(file).toEqual({ tensors, metadata: { format: "pt" } });
    // Every field is back but those of the writer, "_diffusers_version" and the like.
    const { _class_name, _diffusers_version: _, _name_or_path: __, torch_dtype: ___, ...fields } = json;
    expect(await readJson(join(saved, "config.json"))).toMatchObject(
      stem === "model" ? { ...fields, torch_dtype: "float32" } : { _class_name: className, ...fields },
    );
    expect(await loadModel(saved)).toEqual({
      ...model,
      otherFields: { ...model.otherFields, ...(stem === "model" && { torch_dtype: "float32" }) },
    });
  });

  it("that begins here gets the fields of its library and no others", async () => {
    const json = await readJson(join(packages, config));
    await saveModel(folder, withRandomWeights(className, json));
    const written = await readJson(join(folder, "config.json"));
    const known = [
      ...Object.keys(json),
      // Of diffusers' versions after the one that wrote the reference.
      ...["out_channels", "mid_block_add_attention", "use_quant_conv", "use_post_quant_conv", "shift_factor"],
    ];
    expect(Object.keys(written).filter((field) => !known.includes(field))).toEqual([]);
    expect(stem === "model" ? written["architectures"] : written["_class_name"]).toEqual(
      stem === "model" ? [className] : className,
    );
    expect(modelClasses[className].parse(written)).toEqual(modelClasses[className].parse(json));
  });
});

function withRandomWeights<N extends ModelClassName>(className: N, json: unknown): Model<N> {
  const modelClass: ModelClass<ModelConfigs[N]> = modelClasses[className];
  const config = modelClass.parse(json);
  return { className, config, params: initialize(modelClass.parameters(config), 1) };
}

const unetCase = modelCases[0];
const klCase = modelCases[2];
const textCase = modelCases[4];
const unetWeights = "diffusion_pytorch_model.safetensors";

describe("loadModel", () => {
  it.each(["AutoencoderTiny", "AutoencoderKL"] as const)(
    "reads an %s's decoder alone, and saves it",
    async (className) => {
      const golden = modelCases.find(([name]) => name === className)!;
      await layOut(folder, golden);
      const { params, config } = await loadModel(folder, { className });
      const isDecoder = ([name]: [string, unknown]): boolean => /^(decoder|post_quant_conv)\./.test(name);
      const decoder = Object.fromEntries(Object.entries(params).filter(isDecoder));
      await writeSafetensorsFile(join(folder, "diffusion_pytorch_model.safetensors"), decoder);
      const model = await loadModel(folder, { className });
      expect(model).toMatchObject({ config, params: decoder });
      expect(Object.keys(model.params)).toEqual(Object.keys(decoder));
      await saveModel(join(folder, "saved"), model);
      expect((await loadModel(join(folder, "saved"), { className })).params).toEqual(decoder);

      const [name, tensor] = Object.entries(params).find((entry) => !isDecoder(entry))!;
      await writeSafetensorsFile(join(folder, "diffusion_pytorch_model.safetensors"), { ...decoder, [name]: tensor });
      await expect(loadModel(folder, { className })).rejects.toMatchObject({ code: "MISSING_PARAMETER" });
    },
  );

  it("reads variants, shards and single files with their configuration", async () => {
    const json = await layOut(folder, unetCase);
    const model = await loadModel(folder, { className: "UNet2DConditionModel" });
    await copyFile(join(folder, unetWeights), join(folder, "unet.safetensors"));
    expect(await loadModel(join(folder, "unet.safetensors"), { config: json })).toEqual(model);

    await rename(join(folder, unetWeights), join(folder, "diffusion_pytorch_model.fp16.safetensors"));
    expect(await loadModel(folder, { variant: "fp16" })).toEqual(model);
    expect(await loadModel(folder)).toEqual(model); // the only one there is

    const sharded = join(folder, "sharded");
    await saveModel(sharded, model, { maxShardSize: 100_000 });
    const files = (await readdir(sharded)).filter((name) => name.endsWith(".safetensors"));
    expect(files.length).toBeGreaterThan(2);
    expect(await loadModel(sharded)).toEqual(model);
  });

  it("reads autoencoders under diffusers' former names of attention", async () => {
    await layOut(folder, klCase);
    const model = await loadModel(folder);
    const former = { to_q: "query", to_k: "key", to_v: "value", "to_out.0": "proj_attn" };
    const renamed = Object.entries(model.params).map(([name, tensor]) => {
      const old = Object.entries(former).reduce((text, [now, then]) => text.replace(`.${now}.`, `.${then}.`), name);
      return [old, tensor] as const;
    });
    expect(renamed.filter(([name]) => !(name in model.params)).length).toBe(16); // 4 layers in both halves
    await writeSafetensorsFile(join(folder, unetWeights), Object.fromEntries(renamed));
    expect(await loadModel(folder)).toEqual(model);
  });

  it("reads text encoders whose weights list their positions", async () => {
    await layOut(folder, textCase);
    const model = await loadModel(folder);
    const positions = new HostTensor(
      [1, 77],
      Int32Array.from({ length: 77 }, (_, position) => position),
    );
    await writeSafetensorsFile(join(folder, "model.safetensors"), {
      ...model.params,
      "text_model.embeddings.position_ids": positions,
    });
    expect(await loadModel(folder)).toEqual(model);
  });

  it("lists all weights that do not fit before it reads any", async () => {
    await layOut(folder, unetCase);
    const { params } = await loadModel(folder);
    const { "conv_in.bias": _, ...rest } = params;
    await writeSafetensorsFile(join(folder, unetWeights), {
      ...rest,
      "conv_in.weight": random(1).normal([16, 3, 3, 3]),
      "conv_out.bias": new HostTensor([4], new Int32Array(4)),
      surplus: HostTensor.scalar(1),
    });
    await expect(loadModel(folder)).rejects.toMatchObject({
      code: "MISSING_PARAMETER",
      message: expect.stringMatching(
        new RegExp(
          `^${folder}: .*1 missing, 1 of another shape, 1 of another type, 1 unexpected.*missing: conv_in\\.bias \\[16\\]` +
            ".*conv_in\\.weight must be \\[16, 4, 3, 3\\], got \\[16, 3, 3, 3\\]" +
            ".*conv_out\\.bias must be float32, got I32.*unexpected: surplus",
          "s",
        ),
      ),
    });
  });

  it("refuses folders and configurations that it cannot understand, and says what to do", async () => {
    const json = await layOut(folder, unetCase);
    const refused = async (
      code: string,
      message: RegExp,
      options: Parameters<typeof loadModel>[1] = {},
      path = folder,
    ): Promise<void> => {
      await expect(loadModel(path, options)).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
    };
    const config = join(folder, "config.json");
    await refused("UNSUPPORTED_CONFIG", /config\.json is of the class "UNet2DConditionModel", not of AutoencoderKL/, {
      className: "AutoencoderKL",
    });
    await refused("INVALID_ARGUMENT", /Pass its configuration/, {}, join(folder, unetWeights));
    await refused("MISSING_FILE", /There is no folder at/, { config: json }, join(folder, "nowhere"));

    await writeFile(config, JSON.stringify({ ...json, _class_name: "Transformer2DModel" }));
    await refused("UNSUPPORTED_CONFIG", /of the class "Transformer2DModel"; supported: UNet2DConditionModel, /);
    await writeFile(config, JSON.stringify({ ...json, _class_name: undefined }));
    await refused("UNSUPPORTED_CONFIG", /names no class.*option className/);
    expect((await loadModel(folder, { className: "UNet2DConditionModel" })).className).toBe("UNet2DConditionModel");
    await writeFile(config, JSON.stringify({ ...json, norm_eps: "small" }));
    await refused("UNSUPPORTED_CONFIG", /config\.json: UNet2DConditionModel: "norm_eps" is "small"/);
    await writeFile(config, "[1]");
    await refused("UNSUPPORTED_CONFIG", /config\.json: UNet2DConditionModel: the configuration must be an object/, {
      className: "UNet2DConditionModel",
    });
    await writeFile(config, "{");
    await refused("MALFORMED_FILE", /config\.json is not JSON/);
    await rm(config);
    await refused("MISSING_FILE", /There is no .*config\.json.*check the path/);
    await writeFile(join(folder, "model_index.json"), "{}");
    await refused(
      "MISSING_FILE",
      /a whole pipeline's folder\. Pass that of one of its models, as .*unet, or .*loadPipelineFolder/,
    );
    await rename(join(folder, unetWeights), join(folder, "diffusion_pytorch_model.bin"));
    await refused("UNSUPPORTED_OPERATION", /only diffusion_pytorch_model\.bin/, { config: json });
  });
});

describe("saveModel", () => {
  it("stores half precision where it is asked to, and tells transformers", async () => {
    await layOut(folder, textCase);
    const model = await loadModel(folder);
    await saveModel(folder, model, { dtype: "BF16" });
    expect(await readJson(join(folder, "config.json"))).toMatchObject({ torch_dtype: "bfloat16" });
    const rounded = mapTensors(
      model.params,
      ({ shape, data }) => new HostTensor(shape, decodeBfloat16(encodeBfloat16(data as Float32Array))),
    );
    expect((await loadModel(folder)).params).toEqual(rounded);
  });

  it("refuses weights that do not fit the configuration and writes nothing", async () => {
    await layOut(folder, unetCase);
    const model = await loadModel(folder, { className: "UNet2DConditionModel" });
    const { "conv_in.bias": _, ...params } = model.params;
    const target = join(folder, "saved");
    await expect(saveModel(target, { ...model, params })).rejects.toMatchObject({
      code: "MISSING_PARAMETER",
      message: expect.stringContaining("missing: conv_in.bias [16]"),
    });
    await expect(readdir(target)).rejects.toMatchObject({ code: "ENOENT" });
  });

  it("keeps a trained model's outputs the same, bit for bit", async () => {
    const config = parseUNetConfig(await readJson(join(packages, unetCase[1])));
    const predict: Program<"sample" | "timestep" | "context", "noise"> = (
      ops,
      params,
      { sample, timestep, context },
    ) => ({
      noise: unet(ops, scope(ops, params), config, { sample, timestep, encoderHiddenStates: context }).sample,
    });
    const inputs = {
      sample: random(1).normal([1, 4, 8, 8]),
      timestep: new HostTensor([1], Float32Array.of(999)),
      context: random(2).normal([1, 3, 32]),
    };
    const specs = {
      sample: { shape: [1, 4, 8, 8] },
      timestep: { shape: [1] },
      context: { shape: [1, 3, 32] },
    };
    const backend = onnxBackend({ ort });
    const parameters = unetParameters(config);
    const trainable = backend.trainable(initialize(parameters, 3), {});
    const objective: Program<keyof typeof inputs, "loss"> = (ops, params, given) => ({
      loss: ops.mean(ops.square(predict(ops, params, given).noise)),
    });
    const learn = withGradients(objective, Object.keys(parameters));
    const step = await backend.compile(learn, { params: parameters, inputs: specs });
    for (let i = 0; i < 2; i++) {
      const { loss: _, ...gradients } = await step.run(trainable.params, inputs);
      trainable.accumulate(select(gradients, "grad."));
      await trainable.step({ learningRate: 1e-3 });
    }
    await step.dispose();
    const params = select(await trainable.state(), "params.");
    trainable.dispose();

    const outputs = async (weights: HostParams): Promise<HostTensor> => {
      const compiled = await backend.compile(predict, { frozen: weights, inputs: specs });
      const { noise } = await compiled.run({}, inputs);
      const result = await backend.download(noise);
      await compiled.dispose();
      return result;
    };
    await mkdir(join(folder, "unet"));
    await saveModel(join(folder, "unet"), { className: "UNet2DConditionModel", config, params });
    const loaded = await loadModel(join(folder, "unet"), { className: "UNet2DConditionModel" });
    expect(loaded.config).toEqual(config);
    expect(loaded.params).toEqual(params);
    expect(await outputs(loaded.params)).toEqual(await outputs(params));
  });
});
