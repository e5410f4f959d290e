import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { SchedulerConfig } from "@sdxs/diffusion";
import { InvalidArgumentError, MalformedFileError, SdxsError, UnsupportedConfigError } from "@sdxs/tensor";
import { readJsonFile, replaceFile } from "@sdxs/tensor/node";
import { modelClasses, type ModelClassName } from "./model-classes.js";
import { checkModel, openModel, saveModel, type Model, type Opened, type SaveModelOptions } from "./model-folder.js";
import { loadTokenizerFolder, saveTokenizerFolder, tokenizerClass } from "./tokenizer-folder.js";
import type { PromptTokenizer } from "./tokenizer.js";

/** The components of a diffusers pipeline that are loaded and saved, under diffusers' names. */
export interface PipelineComponents {
  readonly unet: Model<"UNet2DConditionModel">;
  readonly vae: Model<"AutoencoderKL" | "AutoencoderTiny">;
  readonly text_encoder: Model<"CLIPTextModel" | "CLIPTextModelWithProjection">;
  /** Stable Diffusion XL's second; `joinTextEncodings` joins what both give. */
  readonly text_encoder_2: Model<"CLIPTextModel" | "CLIPTextModelWithProjection">;
  readonly tokenizer: PromptTokenizer;
  /** For `text_encoder_2`. It pads with another token. */
  readonly tokenizer_2: PromptTokenizer;
  /** scheduler_config.json, of any class; `planFromConfig` of `@sdxs/diffusion` makes a sampler of those it knows. */
  readonly scheduler: SchedulerConfig;
  /** One or several: the folders "controlnet", "controlnet_1", "controlnet_2", ... */
  readonly controlnet: readonly Model<"ControlNetModel">[];
}

export type ComponentName = keyof PipelineComponents;

/** What a pipeline's folder holds. */
export interface PipelineFolder<C extends Partial<PipelineComponents> = Partial<PipelineComponents>> {
  readonly components: C;
  /** diffusers' class of the pipeline. Default in saving: the text-to-image pipeline of these components. */
  readonly className?: string;
  /** Fields of model_index.json that are no components ("force_zeros_for_empty_prompt"). */
  readonly otherFields?: Readonly<Record<string, unknown>>;
}

export interface LoadedPipelineFolder<C extends Partial<PipelineComponents>> extends PipelineFolder<C> {
  readonly className: string;
  readonly otherFields: Readonly<Record<string, unknown>>;
  /** Components that the folder has and that were not asked for or have no use here ("safety_checker"). */
  readonly skipped: readonly string[];
}

export interface LoadPipelineFolderOptions<K extends ComponentName = ComponentName> {
  /** The components to load, which the folder must have. Default: all that it has. */
  readonly only?: readonly K[];
  /** Which of several sets of weights, as for `loadModel`. */
  readonly variant?: string;
}

/** How a component, or one of a list of them, is kept in its folder. */
interface ComponentKind<V> {
  /** Names that model_index.json may give its class; undefined: any. */
  readonly classes: readonly string[] | undefined;
  open(folder: string, className: string, variant: { readonly variant?: string }): Promise<Opened<V>>;
  /** Library and class in model_index.json. */
  entry(value: V): readonly [library: string, className: string];
  /** Throws where the value cannot be saved. */
  check(folder: string, value: V): void;
  save(folder: string, value: V, options: SaveModelOptions): Promise<void>;
}

const model = <N extends ModelClassName>(...classes: readonly N[]): ComponentKind<Model<N>> => ({
  classes,
  open: (folder, className, variant) => openModel(folder, { className: className as N, ...variant }),
  entry: ({ className }) => [modelClasses[className].library, className],
  check: checkModel,
  save: saveModel,
});

/** Of a file that is small enough to be read where others are only checked. */
const small = <V>(load: (folder: string, className: string) => Promise<V>): ComponentKind<V>["open"] => {
  return async (folder, className) => {
    const value = await load(folder, className);
    return { read: () => Promise.resolve(value), close: () => Promise.resolve() };
  };
};

const textEncoder = model("CLIPTextModel", "CLIPTextModelWithProjection");

const tokenizer: ComponentKind<PromptTokenizer> = {
  classes: ["CLIPTokenizer", "CLIPTokenizerFast"],
  open: small(loadTokenizerFolder),
  entry: (value) => ["transformers", tokenizerClass(value)],
  check: () => undefined,
  save: saveTokenizerFolder,
};

const schedulerFile = "scheduler_config.json";
const scheduler: ComponentKind<SchedulerConfig> = {
  classes: undefined,
  open: small(async (folder, className) => {
    const path = join(folder, schedulerFile);
    // As in diffusers, the class of model_index.json counts: schedulers read each other's configurations.
    return { ...checkObject(path, await readJsonFile(path)), _class_name: className };
  }),
  entry: ({ _class_name: className }) => ["diffusers", className],
  check: () => undefined,
  async save(folder, config) {
    await mkdir(folder, { recursive: true });
    await replaceFile(join(folder, schedulerFile), [json(config)]);
  },
};

/** In the order in which they are loaded and saved: what fails soon goes first. */
const kinds: { readonly [K in ComponentName]: ComponentKind<Single<PipelineComponents[K]>> } = {
  scheduler,
  tokenizer,
  tokenizer_2: tokenizer,
  text_encoder: textEncoder,
  text_encoder_2: textEncoder,
  unet: model("UNet2DConditionModel"),
  controlnet: model("ControlNetModel"),
  vae: model("AutoencoderKL", "AutoencoderTiny"),
};
type Single<V> = V extends readonly (infer E)[] ? E : V;

const componentNames = Object.keys(kinds) as ComponentName[];
const kindOf = (name: ComponentName): ComponentKind<unknown> => kinds[name];

/** diffusers' class for several ControlNets, and its library in model_index.json: the pipelines' own module. */
const MULTI_CONTROLNET = ["controlnet", "MultiControlNetModel"] as const;
/** Whose layout is written; it reads later versions' too. Chosen: that of the reference data. */
const DIFFUSERS_VERSION = "0.27.2";
const indexFile = "model_index.json";

/**
 * Loads the components of a pipeline from its folder, as diffusers' `save_pretrained` writes one: model_index.json and a
 * folder for each component.
 *
 * All components are checked, and all that is missing or does not fit is listed, before any weights are read. Components
 * without use here (safety checker, feature extractor, image encoder) are named in `skipped`.
 *
 * @throws SdxsError: MISSING_FILE for a folder without model_index.json, MALFORMED_FILE, INVALID_ARGUMENT for an unknown name
 * in `only`. Where components do not fit, the code is that of the first and the message lists all: those of `loadModel`,
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
export async function loadPipelineFolder(
  folder: string,
  options?: LoadPipelineFolderOptions,
): Promise<LoadedPipelineFolder<Partial<PipelineComponents>>>;
export async function loadPipelineFolder(
  folder: string,
  options: LoadPipelineFolderOptions = {},
): Promise<LoadedPipelineFolder<Partial<PipelineComponents>>> {
  const { only, ...variant } = options;
  const unknown = only?.find((name) => !componentNames.includes(name));
  if (unknown !== undefined) {
    throw new InvalidArgumentError(
      `loadPipelineFolder: only must list some of ${componentNames.join(", ")}; got ${JSON.stringify(unknown)}.`,
    );
  }
  const { className, classes, otherFields } = await readIndex(folder);
  const wanted = componentNames.filter((name) => only?.includes(name) ?? classes.has(name));

  const opened: { readonly name: ComponentName; readonly component: Opened<unknown> }[] = [];
  try {
    const problems: SdxsError[] = [];
    const listing = async (open: () => Promise<void>): Promise<void> => {
      try {
        await open();
      } catch (error) {
        if (!(error instanceof SdxsError)) throw error;
        problems.push(error);
      }
    };
    for (const name of wanted) {
      await listing(async () => {
        const element = elementClass(folder, name, classes);
        for (const path of await componentFolders(folder, name, classes.get(name))) {
          await listing(async () => {
            opened.push({ name, component: await kindOf(name).open(path, element, variant) });
          });
        }
      });
    }
    if (problems.length > 0) throw unfit(folder, problems);

    const components: Partial<Record<ComponentName, unknown>> = {};
    for (const { name, component } of opened) {
      const value = await component.read();
      components[name] = name === "controlnet" ? [...((components[name] ?? []) as unknown[]), value] : value;
    }
    const skipped = [...classes.keys()].filter((name) => !Object.hasOwn(components, name));
    return { className, components: components as Partial<PipelineComponents>, otherFields, skipped };
  } finally {
    for (const { component } of opened) await component.close();
  }
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
  for (const { name, path, value } of parts) kindOf(name).check(path, value);

  await mkdir(folder, { recursive: true });
  for (const { name, path, value } of parts) await kindOf(name).save(path, value, options);
  const controlNets = components.controlnet?.length ?? 0;
  // diffusers goes on to the next number until a folder is missing.
  if (controlNets > 1) await rm(join(folder, `controlnet_${controlNets}`), { recursive: true, force: true });

  const entries = parts.map(({ name, value }) => [name, kindOf(name).entry(value)] as const);
  const index = {
    _class_name: className,
    _diffusers_version: DIFFUSERS_VERSION,
    ...otherFields,
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

const json = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`;

function checkObject(path: string, value: unknown): Readonly<Record<string, unknown>> {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return { ...value };
  throw new MalformedFileError(`${path} must hold an object. Fetch it again.`);
}

interface PipelineIndex {
  readonly className: string;
  /** The class of each component that the folder has. */
  readonly classes: ReadonlyMap<string, string>;
  readonly otherFields: Readonly<Record<string, unknown>>;
}

async function readIndex(folder: string): Promise<PipelineIndex> {
  const path = join(folder, indexFile);
  const present = await readdir(folder).catch((cause: unknown): never => {
    throw new SdxsError("MISSING_FILE", `There is no folder at ${folder}. Check the path.`, { cause });
  });
  if (!present.includes(indexFile)) {
    throw new SdxsError(
      "MISSING_FILE",
      present.includes("config.json")
        ? `${folder} is the folder of one model, not of a pipeline with a ${indexFile}. Load it by loadModel, or pass the folder above it.`
        : `There is no ${path}, so ${folder} is no pipeline's folder. Fetch it, or load single models by loadModel.`,
    );
  }
  const { _class_name: className, ...fields } = checkObject(path, await readJsonFile(path));
  if (typeof className !== "string") {
    throw new MalformedFileError(`${path} must name the pipeline's class by "_class_name". Fetch it again.`);
  }
  const classes = new Map<string, string>();
  const otherFields: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(fields)) {
    if (Array.isArray(value) && value.length === 2) {
      if (typeof value[1] === "string") classes.set(name, value[1]); // [null, null]: none
    } else if (!name.startsWith("_")) {
      otherFields[name] = value;
    }
  }
  return { className, classes, otherFields };
}

/** The class of a component, or of each of several ControlNets. */
function elementClass(folder: string, name: ComponentName, classes: ReadonlyMap<string, string>): string {
  const named = classes.get(name);
  if (named === undefined) {
    throw new SdxsError(
      "MISSING_FILE",
      `${join(folder, indexFile)} has no ${name}; it has ${[...classes.keys()].join(", ")}.`,
    );
  }
  const className = name === "controlnet" && named === MULTI_CONTROLNET[1] ? "ControlNetModel" : named;
  const { classes: supported } = kinds[name];
  if (supported?.includes(className) ?? true) return className;
  throw new UnsupportedConfigError(
    `${join(folder, name)} is of the class ${JSON.stringify(className)}; supported: ${supported?.join(", ")}.`,
  );
}

/** A component's folder, or those of several ControlNets. */
async function componentFolders(folder: string, name: ComponentName, className?: string): Promise<string[]> {
  const paths = [join(folder, name)];
  if (className !== MULTI_CONTROLNET[1]) return paths;
  const present = await readdir(folder);
  while (present.includes(`${name}_${paths.length}`)) paths.push(join(folder, `${name}_${paths.length}`));
  return paths;
}

function unfit(folder: string, problems: readonly SdxsError[]): SdxsError {
  const [first] = problems;
  const lines = problems.map(({ message }) => `- ${message.replaceAll("\n", "\n  ")}`);
  return new SdxsError(
    first?.code ?? "MISSING_FILE",
    `loadPipelineFolder: ${folder} cannot be loaded (problems: ${problems.length}):\n${lines.join("\n")}\n` +
      `Fetch what is missing, or leave these components out by the option only.`,
    { cause: first },
  );
}

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
