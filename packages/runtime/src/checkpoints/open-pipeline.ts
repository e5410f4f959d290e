import type { SchedulerConfig } from "@sdxs/diffusion";
import {
  InvalidArgumentError,
  MalformedFileError,
  SdxsError,
  UnsupportedConfigError,
  readJson,
  type ModelFiles,
} from "@sdxs/tensor";
import { inMessages } from "./in-messages.js";
import { modelClasses, type ModelClassName } from "./model-classes.js";
import { indexFile, openModel, type Opened } from "./open-model.js";
import { readTokenizer } from "./open-tokenizer.js";
import { checkTextToImage, type ComponentConfigs } from "./check-components.js";
import type { OnWarning, PipelineWarning } from "./pipeline-warnings.js";
import type { ComponentName, PipelineComponents, PipelineSettings, TextToImageComponents } from "./components.js";

/** What a pipeline's folder holds. */
export interface PipelineFolder<C extends Partial<PipelineComponents> = Partial<PipelineComponents>> {
  readonly components: C;
  /** diffusers' class of the pipeline. Default in saving: the text-to-image pipeline of these components. */
  readonly className?: string;
  /** Fields of model_index.json that are no components ("requires_safety_checker"). */
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
  /** Components to leave out even where the folder has them. */
  readonly except?: readonly ComponentName[];
  /**
   * "text-to-image": load all that `createPipeline` takes, and throw what it would throw of the components before any weights are
   * read. Default: any components, for whatever purpose.
   */
  readonly purpose?: "text-to-image";
  /** Which of several sets of weights, as for `loadModel`. Components that lack it are read without, as by diffusers. */
  readonly variant?: string;
  /** Hears of fields that are ignored, of components that are not run, and of weights of another variant. */
  readonly onWarning?: OnWarning;
}

/** What is loaded for `createPipeline`. */
export type TextToImagePurpose = LoadPipelineFolderOptions & {
  readonly purpose: "text-to-image";
  readonly only?: never;
};
export type LoadedTextToImage = LoadedPipelineFolder<TextToImageComponents>;

/** How a component, or one of a list of them, is read from its folder. */
interface ComponentReader {
  /** Names that model_index.json may give its class; undefined: any. */
  readonly classes: readonly string[] | undefined;
  open(
    files: ModelFiles,
    className: string,
    which: Pick<LoadPipelineFolderOptions, "variant" | "onWarning">,
  ): Promise<Opened<unknown>>;
}

const model = (...classes: readonly ModelClassName[]): ComponentReader => ({
  classes,
  open: (files, className, which) => openModel(files, { className: className as ModelClassName, ...which }),
});

/** Of files that are small enough to be read where others are only checked. */
const small = (read: (files: ModelFiles, className: string) => Promise<unknown>): ComponentReader["open"] => {
  return async (files, className) => {
    const value = await read(files, className);
    return { read: () => Promise.resolve(value), preview: value, close: () => Promise.resolve() };
  };
};

const textEncoder = model("CLIPTextModel", "CLIPTextModelWithProjection");

const tokenizer: ComponentReader = { classes: ["CLIPTokenizer", "CLIPTokenizerFast"], open: small(readTokenizer) };

export const schedulerFile = "scheduler_config.json";
const scheduler: ComponentReader = {
  classes: undefined,
  open: small(async (files, className) => {
    // As in diffusers, the class of model_index.json counts: schedulers read each other's configurations.
    const config = checkObject(files.location(schedulerFile), await readJson(files, schedulerFile));
    return { ...config, _class_name: className };
  }),
};

/** In the order in which they are loaded and saved: what fails soon goes first. */
const readers: { readonly [K in ComponentName]: ComponentReader } = {
  scheduler,
  tokenizer,
  tokenizer_2: tokenizer,
  text_encoder: textEncoder,
  text_encoder_2: textEncoder,
  unet: model("UNet2DConditionModel"),
  controlnet: model("ControlNetModel"),
  vae: model("AutoencoderKL", "AutoencoderTiny"),
};

export const componentNames = Object.keys(readers) as ComponentName[];

/** diffusers' class for several ControlNets, and its library in model_index.json: the pipelines' own module. */
export const MULTI_CONTROLNET = ["controlnet", "MultiControlNetModel"] as const;

/**
 * Loads a pipeline's components, wherever its files lie. All are checked, and all that is missing or does not fit is listed,
 * before any weights are read. `caller` stands in messages. What `checkScheduler` throws is listed too; it is called where a
 * U-Net is loaded with it.
 */
export async function loadPipelineFiles(
  caller: string,
  files: ModelFiles,
  options: LoadPipelineFolderOptions,
  checkScheduler?: (config: SchedulerConfig) => void,
): Promise<LoadedPipelineFolder<Partial<PipelineComponents>>> {
  const { only, except, purpose, variant, onWarning } = options;
  for (const [option, names] of Object.entries({ only, except })) {
    const unknown = names?.find((name) => !componentNames.includes(name));
    if (unknown === undefined) continue;
    throw new InvalidArgumentError(
      `${caller}: ${option} must list some of ${componentNames.join(", ")}; got ${JSON.stringify(unknown)}.`,
    );
  }
  const { className, classes, otherFields } = await readIndex(files);
  const wanted = componentNames.filter(
    (name) => (only?.includes(name) ?? classes.has(name)) && !(except?.includes(name) ?? false),
  );
  const variants = variantReader(variant, onWarning);

  const opened: { readonly name: ComponentName; readonly component: Opened<unknown> }[] = [];
  try {
    const problems: SdxsError[] = [];
    const listing = async (open: () => Promise<void>): Promise<void> => {
      try {
        await open();
      } catch (error) {
        // What keeps one file from being read keeps the others from it too.
        if (!(error instanceof SdxsError) || error.code === "FILE_FAILURE" || error.code === "ABORTED") throw error;
        problems.push(error);
      }
    };
    for (const name of wanted) {
      await listing(async () => {
        const element = elementClass(files, name, classes);
        for (const folder of await componentFolders(files, name, classes.get(name))) {
          await listing(async () => {
            const component = await variants.open(readers[name], folder, element);
            opened.push({ name, component });
            if (name === "scheduler" && wanted.includes("unet")) {
              const config = (await component.read()) as SchedulerConfig;
              inMessages(files.location(`${name}/${schedulerFile}`), () => checkScheduler?.(config));
            }
          });
        }
      });
    }
    problems.push(...variants.problems());
    if (problems.length > 0) throw unfit(caller, files.location(), problems);
    if (purpose === "text-to-image")
      checkTextToImage(caller, joined(opened.map(({ name, component }) => [name, component.preview])));
    warnOfIndex(files.location(indexFile), { className, classes, otherFields }, onWarning);

    const read: (readonly [ComponentName, unknown])[] = [];
    for (const { name, component } of opened) read.push([name, await component.read()]);
    const settings = settingsOf(files.location(indexFile), otherFields);
    const components = {
      ...joined(read),
      ...(Object.keys(settings).length > 0 && { settings }),
    } as Partial<PipelineComponents>;
    const skipped = [...classes.keys()].filter((name) => !Object.hasOwn(components, name));
    return { className, components, otherFields, skipped };
  } finally {
    for (const { component } of opened) await component.close();
  }
}

/** Components by their names; ControlNets as a list. */
function joined(values: readonly (readonly [ComponentName, unknown])[]): ComponentConfigs {
  const components: Partial<Record<ComponentName, unknown>> = {};
  for (const [name, value] of values) {
    components[name] = name === "controlnet" ? [...((components[name] ?? []) as unknown[]), value] : value;
  }
  return components as ComponentConfigs;
}

/** Opens models by the variant that is asked for, and those that lack it by their other weights, as diffusers does. */
function variantReader(variant: string | undefined, onWarning: OnWarning | undefined) {
  const hear = onWarning && { onWarning };
  /** Of models that lack it. */
  const lacking: SdxsError[] = [];
  let isFound = variant === undefined;
  return {
    async open(reader: ComponentReader, files: ModelFiles, className: string): Promise<Opened<unknown>> {
      if (variant === undefined || !Object.hasOwn(modelClasses, className)) {
        return reader.open(files, className, { ...hear });
      }
      try {
        const opened = await reader.open(files, className, { ...hear, variant });
        isFound = true;
        return opened;
      } catch (error) {
        if (!(error instanceof SdxsError) || error.code !== "MISSING_FILE") throw error;
        const opened = await reader.open(files, className, { ...hear }).catch(() => Promise.reject(error));
        lacking.push(error);
        onWarning?.({
          code: "OTHER_WEIGHTS",
          message: `${files.location()} has no weights of the variant ${JSON.stringify(variant)}; its others are read, as by diffusers.`,
        });
        return opened;
      }
    },
    /** Of a variant that no model has. */
    problems: (): readonly SdxsError[] => (isFound ? [] : lacking),
  };
}

/** Fields of model_index.json that change no picture here. */
const INDEX_FIELDS_WITHOUT_EFFECT = ["requires_safety_checker"];

/** @throws UnsupportedConfigError for a field that would change pictures */
function settingsOf(
  path: string,
  { force_zeros_for_empty_prompt: forceZeros }: Readonly<Record<string, unknown>>,
): PipelineSettings {
  if (forceZeros === undefined || forceZeros === null) return {};
  if (typeof forceZeros === "boolean") return { force_zeros_for_empty_prompt: forceZeros };
  throw new UnsupportedConfigError(
    `${path}: "force_zeros_for_empty_prompt" is ${JSON.stringify(forceZeros)}; supported: true or false.`,
  );
}

function warnOfIndex(path: string, { classes, otherFields }: PipelineIndex, onWarning: OnWarning | undefined): void {
  const warn = (code: PipelineWarning["code"], message: string): void =>
    onWarning?.({ code, message: `${path}: ${message}` });
  const unused = [...classes.keys()].filter((name) => !componentNames.some((known) => known === name));
  if (unused.length > 0) {
    const checker = unused.includes("safety_checker") ? " No picture is checked for what it shows." : "";
    warn(
      "UNUSED_COMPONENT",
      `the pipeline's ${unused.join(", ")} ${unused.length === 1 ? "is" : "are"} not run here.${checker}`,
    );
  }
  if (otherFields["add_watermarker"] === true)
    warn("UNKNOWN_FIELD", `"add_watermarker" is true; pictures get no watermark here.`);
  const known = ["force_zeros_for_empty_prompt", "add_watermarker", ...INDEX_FIELDS_WITHOUT_EFFECT];
  const unknown = Object.keys(otherFields).filter((field) => !known.includes(field));
  if (unknown.length > 0) {
    warn(
      "UNKNOWN_FIELD",
      `${unknown.map((field) => `"${field}"`).join(", ")} ${unknown.length === 1 ? "has" : "have"} no effect here.`,
    );
  }
}

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

async function readIndex(files: ModelFiles): Promise<PipelineIndex> {
  const present = await files.list([indexFile, "config.json"]);
  const path = files.location(indexFile);
  const place = files.location();
  if (!present.includes(indexFile)) {
    throw new SdxsError(
      "MISSING_FILE",
      present.includes("config.json")
        ? `${place} is the folder of one model, not of a pipeline with a ${indexFile}. Load it by loadModel or fetchModel, or pass the folder above it.`
        : `There is no ${path}, so ${place} is no pipeline's folder. Fetch it, or load single models by loadModel or fetchModel.`,
    );
  }
  const { _class_name: className, ...fields } = checkObject(path, await readJson(files, indexFile));
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
function elementClass(files: ModelFiles, name: ComponentName, classes: ReadonlyMap<string, string>): string {
  const named = classes.get(name);
  if (named === undefined) {
    throw new SdxsError(
      "MISSING_FILE",
      `${files.location(indexFile)} has no ${name}; it has ${[...classes.keys()].join(", ")}.`,
    );
  }
  const className = name === "controlnet" && named === MULTI_CONTROLNET[1] ? "ControlNetModel" : named;
  const { classes: supported } = readers[name];
  if (supported?.includes(className) ?? true) return className;
  throw new UnsupportedConfigError(
    `${files.location(name)} is of the class ${JSON.stringify(className)}; supported: ${supported?.join(", ")}.`,
  );
}

/** A component's folder, or those of several ControlNets. */
async function componentFolders(files: ModelFiles, name: ComponentName, className?: string): Promise<ModelFiles[]> {
  const folders = [files.folder(name)];
  if (className !== MULTI_CONTROLNET[1]) return folders;
  for (;;) {
    const next = `${name}_${folders.length}`;
    // A disk lists the folder, a server answers for its file.
    const present = await files.list([`${next}/config.json`]);
    if (!present.some((path) => path.split("/")[0] === next)) return folders;
    folders.push(files.folder(next));
  }
}

function unfit(caller: string, place: string, problems: readonly SdxsError[]): SdxsError {
  const [first] = problems;
  const lines = problems.map(({ message }) => `- ${message.replaceAll("\n", "\n  ")}`);
  return new SdxsError(
    first?.code ?? "MISSING_FILE",
    `${caller}: ${place} cannot be loaded (problems: ${problems.length}):\n${lines.join("\n")}\n` +
      `Fetch what is missing, or leave these components out by the option only.`,
    { cause: first },
  );
}
