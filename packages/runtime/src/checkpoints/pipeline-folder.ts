import { mkdir, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { SchedulerConfig } from "@sdxs/diffusion";
import { InvalidArgumentError, formatJson } from "@sdxs/tensor";
import { diskFiles, replaceFile } from "@sdxs/tensor/node";
import { modelClasses, type ModelClassName } from "./model-classes.js";
import { BASE_VERSION, latest, versionOf } from "./diffusers-version.js";
import { checkModel, isFile, saveModel, savedVersion, type SaveModelOptions } from "./model-folder.js";
import { indexFile, type Model } from "./open-model.js";
import {
  MULTI_CONTROLNET,
  componentNames,
  loadPipelineFiles,
  schedulerFile,
  type LoadPipelineFolderOptions,
  type LoadedPipelineFolder,
  type LoadedTextToImage,
  type PipelineFolder,
  type TextToImagePurpose,
} from "./open-pipeline.js";
import type { ComponentName, PipelineComponents } from "./components.js";
import { tokenizerClass } from "./open-tokenizer.js";
import { pipelineFileError } from "./single-file.js";
import { saveTokenizerFolder } from "./tokenizer-folder.js";
import type { PromptTokenizer } from "../clip/tokenizer.js";

/** How a component, or one of a list of them, is written into its folder. */
interface ComponentWriter<V> {
  /** Library and class in model_index.json. */
  entry(value: V): readonly [library: string, className: string];
  /** Throws where the value cannot be saved. */
  check(folder: string, value: V): void;
  /** The least version of diffusers that knows all that is written. */
  version(value: V, options: SaveModelOptions): string;
  save(folder: string, value: V, options: SaveModelOptions): Promise<void>;
}

const model: ComponentWriter<Model> = {
  entry: ({ className }) => [modelClasses[className].library, className],
  check: checkModel<ModelClassName>,
  version: savedVersion,
  save: saveModel<ModelClassName>,
};

const tokenizer: ComponentWriter<PromptTokenizer> = {
  entry: (value) => ["transformers", tokenizerClass(value)],
  check: () => undefined,
  version: () => BASE_VERSION,
  save: saveTokenizerFolder,
};

const scheduler: ComponentWriter<SchedulerConfig> = {
  entry: ({ _class_name: className }) => ["diffusers", className],
  check: () => undefined,
  version: (config) => versionOf(config._class_name, { ...config }),
  async save(folder, config) {
    await mkdir(folder, { recursive: true });
    await replaceFile(join(folder, schedulerFile), [json(config)]);
  },
};

const writers: { readonly [K in ComponentName]: ComponentWriter<Single<PipelineComponents[K]>> } = {
  scheduler,
  tokenizer,
  tokenizer_2: tokenizer,
  text_encoder: model,
  text_encoder_2: model,
  unet: model,
  controlnet: model,
  vae: model,
};
type Single<V> = V extends readonly (infer E)[] ? E : V;

const writerOf = (name: ComponentName): ComponentWriter<unknown> => writers[name];

/**
 * Loads the components of a pipeline from its folder, as diffusers' `save_pretrained` writes one: model_index.json and a
 * folder for each component.
 *
 * All components are checked, and all that is missing or does not fit is listed, before any weights are read. Components
 * without use here (safety checker, feature extractor, image encoder) are named in `skipped`.
 *
 * @throws SdxsError: MISSING_FILE for a folder without model_index.json, UNSUPPORTED_OPERATION for a single file in place of a
 * folder, with the way to convert it, MALFORMED_FILE, INVALID_ARGUMENT for an unknown name in `only`. Where components do not fit, the code is that of the first and the message lists all: those of `loadModel`,
 * MISSING_FILE for a component that the folder lacks, UNSUPPORTED_CONFIG for one of another class.
 *
 * @example
 * const { components } = await loadPipelineFolder("sdxs-512", { only: ["unet", "vae", "scheduler"] });
 * const plan = planFromConfig(components.scheduler, 1);
 */
export async function loadPipelineFolder<K extends ComponentName>(
  folder: string,
  options: LoadPipelineFolderOptions<K> & { readonly only: readonly K[] },
): Promise<LoadedPipelineFolder<Pick<PipelineComponents, K>>>;
export async function loadPipelineFolder(folder: string, options: TextToImagePurpose): Promise<LoadedTextToImage>;
export async function loadPipelineFolder(
  folder: string,
  options?: LoadPipelineFolderOptions,
): Promise<LoadedPipelineFolder<Partial<PipelineComponents>>>;
export async function loadPipelineFolder(
  folder: string,
  options: LoadPipelineFolderOptions = {},
): Promise<LoadedPipelineFolder<Partial<PipelineComponents>>> {
  if (await isFile(folder)) {
    throw await pipelineFileError(diskFiles(dirname(folder)), basename(folder), "the folder of a pipeline");
  }
  return loadPipelineFiles("loadPipelineFolder", diskFiles(folder), options);
}

/**
 * Saves a pipeline so that diffusers' `from_pretrained` reads it: each component in its folder, and then model_index.json.
 * Makes the folder; components that it held before are replaced one by one. No safety checker is saved.
 *
 * @param options How weights are stored, as for `saveModel`.
 * @throws SdxsError: INVALID_ARGUMENT, naming the components that such a pipeline also needs; those of `saveModel`. Weights that
 * do not fit their configuration are found before anything is written.
 *
 * @example
 * const teacher = await loadPipelineFolder("teacher");
 * await savePipelineFolder("student", { ...teacher, components: { ...teacher.components, unet: student } }, { dtype: "F16" });
 */
export async function savePipelineFolder(
  folder: string,
  pipeline: PipelineFolder,
  options: SaveModelOptions = {},
): Promise<void> {
  const { components, className = pipelineClass(components), otherFields = {} } = pipeline;
  checkComplete(components);
  const parts = componentNames.flatMap((name) =>
    valuesOf(components, name).map((value, index) => ({
      name,
      value,
      path: join(folder, index === 0 ? name : `${name}_${index}`),
    })),
  );
  for (const { name, path, value } of parts) writerOf(name).check(path, value);

  await mkdir(folder, { recursive: true });
  for (const { name, path, value } of parts) await writerOf(name).save(path, value, options);
  const controlNets = components.controlnet?.length ?? 0;
  // diffusers goes on to the next number until a folder is missing.
  if (controlNets > 1) await rm(join(folder, `controlnet_${controlNets}`), { recursive: true, force: true });

  const entries = parts.map(({ name, value }) => [name, writerOf(name).entry(value)] as const);
  const index = {
    _class_name: className,
    _diffusers_version: latest(parts.map(({ name, value }) => writerOf(name).version(value, options))),
    ...otherFields,
    ...components.settings,
    ...(components.text_encoder_2 === undefined && withoutSafetyChecker),
    ...Object.fromEntries(entries),
    ...(controlNets > 1 && { controlnet: MULTI_CONTROLNET }),
  };
  await replaceFile(join(folder, indexFile), [json(index)]);
}

/** Stable Diffusion 1 and 2; without them diffusers warns at each loading. */
const withoutSafetyChecker = {
  feature_extractor: [null, null],
  safety_checker: [null, null],
  requires_safety_checker: false,
};

const json = (value: unknown): string => `${formatJson(value, 2)}\n`;

function valuesOf(components: Partial<PipelineComponents>, name: ComponentName): readonly unknown[] {
  if (name === "controlnet") return components.controlnet ?? [];
  return components[name] === undefined ? [] : [components[name]];
}

/** diffusers' text-to-image pipeline of these components. */
function pipelineClass({ text_encoder_2: second, controlnet = [] }: Partial<PipelineComponents>): string {
  return `StableDiffusion${second === undefined ? "" : "XL"}${controlnet.length > 0 ? "ControlNet" : ""}Pipeline`;
}

function checkComplete(components: Partial<PipelineComponents>): void {
  const isXl = components.text_encoder_2 !== undefined || components.tokenizer_2 !== undefined;
  // XL's first text encoder may be absent, as in its refiner.
  const hasFirst = !isXl || components.text_encoder !== undefined || components.tokenizer !== undefined;
  const needed: ComponentName[] = [
    "unet",
    "vae",
    "scheduler",
    ...(hasFirst ? (["text_encoder", "tokenizer"] as const) : []),
    ...(isXl ? (["text_encoder_2", "tokenizer_2"] as const) : []),
  ];
  const missing = needed.filter((name) => components[name] === undefined);
  if (missing.length === 0) return;
  throw new InvalidArgumentError(
    `savePipelineFolder: a pipeline of these components also needs ${missing.join(", ")}. Add them, or save models alone by saveModel.`,
  );
}
