import {
  InvalidArgumentError,
  SdxsError,
  UnsupportedConfigError,
  checkParameters,
  mapTensors,
  openWeights,
  openWeightsFile,
  readJson,
  type HostParams,
  type HostTensor,
  type ModelFiles,
  type ParameterSpec,
  type SafetensorsFile,
} from "@sdxs/tensor";
import { inMessages } from "./in-messages.js";
import {
  isModelClassName,
  modelClasses,
  type ModelClass,
  type ModelClassName,
  type ModelConfigs,
} from "./model-classes.js";
import type { OnWarning } from "./pipeline-warnings.js";

/** A model in memory. `className` tells which configuration it has. */
export type Model<N extends ModelClassName = ModelClassName> = {
  readonly [K in N]: {
    readonly className: K;
    readonly config: ModelConfigs[K];
    /** float32, under diffusers' or transformers' names. An autoencoder's decoder may come without its encoder. */
    readonly params: HostParams;
    /** Fields of config.json that `config` does not have ("sample_size" of an AutoencoderKL); `saveModel` writes them back. */
    readonly otherFields?: Readonly<Record<string, unknown>>;
  };
}[N];

export interface LoadModelOptions<N extends ModelClassName = ModelClassName> {
  /** The class that is expected: another one is an error. Needed where the configuration does not name its class. */
  readonly className?: N;
  /** The parsed config.json, for a single file or in place of the folder's. */
  readonly config?: unknown;
  /** Which of several sets of weights: "fp16" for diffusion_pytorch_model.fp16.safetensors. */
  readonly variant?: string;
  /** Hears of fields of config.json that are ignored. */
  readonly onWarning?: OnWarning;
}

/** What the files of each library's weights begin with. */
export const WEIGHTS_STEM = { diffusers: "diffusion_pytorch_model", transformers: "model" } as const;
const FLOAT_TYPES = ["F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "F64"];

const configFile = "config.json";
/** What a whole pipeline's folder has. */
export const indexFile = "model_index.json";

/** What has been checked and is ready to be read. Close it. */
export interface Opened<V> {
  read(): Promise<V>;
  /** What is known before `read`: a model's class and configuration, all of what is small. */
  readonly preview: unknown;
  close(): Promise<void>;
}

/**
 * The first half of loading a model from its folder, or from a single safetensors file of it with the option `config`:
 * throws all that loading may throw for what does not fit, and reads no weights.
 */
export async function openModel<N extends ModelClassName = ModelClassName>(
  files: ModelFiles,
  options: LoadModelOptions<N> = {},
  singleFile?: string,
): Promise<Opened<Model<N>>> {
  const path = files.location(singleFile);
  if (singleFile !== undefined && options.config === undefined) {
    throw new InvalidArgumentError(
      `${path} is a file of weights alone. Pass its configuration as the option config, or a folder that has a config.json.`,
    );
  }
  const json = options.config ?? (await readConfig(files));
  const source = options.config === undefined ? files.location(configFile) : `${path}: the option config`;
  const className = classNameOf(source, json, options.className);
  const modelClass: ModelClass<ModelConfigs[N]> = modelClasses[className];
  const warnOfUnknown = (fields: readonly string[]): void =>
    options.onWarning?.({
      code: "UNKNOWN_FIELD",
      message: `${source}: a ${className} has no ${fields.map((field) => `"${field}"`).join(", ")}; ignored, as in diffusers.`,
    });
  const config = inMessages(source, () => modelClass.parse(json, warnOfUnknown));

  const weights =
    singleFile === undefined
      ? await openWeights(files, WEIGHTS_STEM[modelClass.library], options)
      : await openWeightsFile(files, singleFile);
  try {
    const readParameters = openParameters(path, weights, modelClass, config);
    return {
      read: async () =>
        ({
          className,
          config,
          params: await readParameters(),
          otherFields: otherFields(json, modelClass, config),
        }) as Model<N>,
      preview: { className, config },
      close: () => weights.close(),
    };
  } catch (error) {
    await weights.close();
    throw error;
  }
}

/** The second half: reads what was opened, and closes it. */
export async function readOpened<V>(opening: Promise<Opened<V>>): Promise<V> {
  const opened = await opening;
  try {
    return await opened.read();
  } finally {
    await opened.close();
  }
}

async function readConfig(files: ModelFiles): Promise<unknown> {
  try {
    return await readJson(files, configFile);
  } catch (error) {
    if (!(error instanceof SdxsError) || error.code !== "MISSING_FILE") throw error;
    const isPipeline = await files.list([indexFile]).then(
      (names) => names.includes(indexFile),
      () => false,
    );
    throw new SdxsError(
      "MISSING_FILE",
      isPipeline
        ? `${files.location()} is a whole pipeline's folder. Pass that of one of its models, as ${files.location("unet")}, or load it by loadPipelineFolder or fetchPipeline.`
        : `There is no ${files.location(configFile)}, so the weights beside it cannot be understood. Fetch it, pass its content as the option ` +
            `config, or check the path.`,
      { cause: error },
    );
  }
}

/** The class that a configuration names, "_class_name" in diffusers and "architectures" in transformers. */
function classNameOf<N extends ModelClassName>(source: string, json: unknown, expected: N | undefined): N {
  const fields: Readonly<Record<string, unknown>> = typeof json === "object" && json !== null ? { ...json } : {};
  const { _class_name: own, architectures } = fields;
  const named: unknown = own ?? (Array.isArray(architectures) ? architectures[0] : undefined) ?? expected;
  if (named === undefined) {
    throw new UnsupportedConfigError(
      `${source} names no class, neither by "_class_name" nor by "architectures". Pass it as the option className.`,
    );
  }
  if (expected !== undefined && named !== expected) {
    throw new UnsupportedConfigError(
      `${source} is of the class ${JSON.stringify(named)}, not of ${expected}. Check the path, or ask for that class.`,
    );
  }
  if (isModelClassName(named)) return named as N;
  throw new UnsupportedConfigError(
    `${source} is of the class ${JSON.stringify(named)}; supported: ${Object.keys(modelClasses).join(", ")}.`,
  );
}

/** A model's parameters, without those that may be absent where all of them are. */
export function parametersOfModel<C>(
  { parameters, isOptional = () => false }: ModelClass<C>,
  config: C,
  found: Readonly<Record<string, unknown>>,
): Record<string, ParameterSpec> {
  const specs = parameters(config);
  if (Object.keys(found).some(isOptional)) return specs;
  return Object.fromEntries(Object.entries(specs).filter(([name]) => !isOptional(name)));
}

const asStored = <V>(stored: Readonly<Record<string, V>>): Record<string, V> => ({ ...stored });

/** Compares what is stored with what the model needs, and gives what reads it. */
function openParameters<C>(
  path: string,
  weights: SafetensorsFile,
  modelClass: ModelClass<C>,
  config: C,
): () => Promise<HostParams> {
  const { parametersOf = asStored } = modelClass;
  const storedNames = parametersOf(Object.fromEntries(weights.names.map((name) => [name, name])));
  const found = mapTensors(storedNames, (name) => {
    const { dtype, shape } = weights.info(name);
    return { shape, dtype: FLOAT_TYPES.includes(dtype) ? "float32" : dtype };
  });
  const specs = parametersOfModel(modelClass, config, found);
  inMessages(path, () => checkParameters(specs, found));

  return async () => {
    // Read in the files' order, kept in the model's, which does not depend on who wrote them.
    const read: Record<string, HostTensor> = {};
    const remaining = Object.entries(storedNames).values();
    const readRemaining = async (): Promise<void> => {
      for (const [name, stored] of remaining) read[name] = await weights.read(stored);
    };
    // Two at a time: the system reads one while the other is widened.
    await Promise.all([readRemaining(), readRemaining()]);
    return mapTensors(specs, (_, name) => read[name]!);
  };
}

function otherFields<C>(json: unknown, modelClass: ModelClass<C>, config: C): Readonly<Record<string, unknown>> {
  const known = new Set(["architectures", ...Object.keys({ ...config, ...modelClass.fields?.(config) })]);
  // "_class_name", "_diffusers_version", "_name_or_path": who wrote the file, not what the model is.
  const others = Object.entries({ ...(json as object) }).filter(([name]) => !known.has(name) && !name.startsWith("_"));
  return Object.fromEntries(others);
}
