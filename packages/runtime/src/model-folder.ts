import { access, mkdir } from "node:fs/promises";
import { join } from "node:path";
import {
  InvalidArgumentError,
  SdxsError,
  UnsupportedConfigError,
  checkParameters,
  mapTensors,
  type HostParams,
  type HostTensor,
} from "@sdxs/tensor";
import {
  openCheckpoint,
  openSafetensorsFile,
  readJsonFile,
  writeCheckpoint,
  type SafetensorsFile,
  type WriteCheckpointOptions,
} from "@sdxs/tensor/node";
import {
  isModelClassName,
  modelClasses,
  type ModelClass,
  type ModelClassName,
  type ModelConfigs,
} from "./model-classes.js";
import { inMessages } from "./in-messages.js";

/** A model in memory. `className` tells which configuration it has. */
export type Model<N extends ModelClassName = ModelClassName> = {
  readonly [K in N]: {
    readonly className: K;
    readonly config: ModelConfigs[K];
    /** float32, under diffusers' or transformers' names. */
    readonly params: HostParams;
    /** Fields of config.json that `config` does not have ("force_upcast"); `saveModel` writes them back. */
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
}

export type SaveModelOptions = Pick<WriteCheckpointOptions, "dtype" | "maxShardSize">;

/** What the files of each library's weights begin with. */
const WEIGHTS_STEM = { diffusers: "diffusion_pytorch_model", transformers: "model" } as const;
/** torch_dtype in transformers' config.json. */
const TORCH_DTYPE = { F32: "float32", F16: "float16", BF16: "bfloat16" } as const;
const FLOAT_TYPES = ["F32", "F16", "BF16", "F64"];

/**
 * Loads a model from its folder, as diffusers and transformers save one (config.json beside weights in one file or in
 * shards), or from a single safetensors file with its `config`.
 *
 * Names, shapes and types are compared with the configuration before any weights are read; then one tensor at a time is
 * read and widened to float32, so that hardly more memory is used than the model takes.
 *
 * @throws SdxsError, with the file in its message: MISSING_FILE; MALFORMED_FILE; UNSUPPORTED_OPERATION for pickled weights;
 * UNSUPPORTED_CONFIG for another class or an unsupported field; MISSING_PARAMETER, SHAPE_MISMATCH, DTYPE_MISMATCH or
 * UNEXPECTED_PARAMETER, which list all that does not fit.
 *
 * @example
 * const { config, params } = await loadModel("sdxs-512/unet", { className: "UNet2DConditionModel" });
 */
export async function loadModel<N extends ModelClassName = ModelClassName>(
  path: string,
  options: LoadModelOptions<N> = {},
): Promise<Model<N>> {
  const model = await openModel(path, options);
  try {
    return await model.read();
  } finally {
    await model.close();
  }
}

/** What has been checked and is ready to be read. Close it. */
export interface Opened<V> {
  read(): Promise<V>;
  close(): Promise<void>;
}

/** The first half of `loadModel`: throws all that it may throw for what does not fit, and reads no weights. */
export async function openModel<N extends ModelClassName = ModelClassName>(
  path: string,
  options: LoadModelOptions<N> = {},
): Promise<Opened<Model<N>>> {
  const isFile = path.endsWith(".safetensors");
  const configPath = join(path, "config.json");
  if (isFile && options.config === undefined) {
    throw new InvalidArgumentError(
      `loadModel: ${path} is a file of weights alone. Pass its configuration as the option config, or a folder that has a config.json.`,
    );
  }
  const json = options.config ?? (await readConfig(path));
  const source = options.config === undefined ? configPath : "loadModel: the option config";
  const className = classNameOf(source, json, options.className);
  const modelClass: ModelClass<ModelConfigs[N]> = modelClasses[className];
  const config = inMessages(source, () => modelClass.parse(json));

  const weights = isFile
    ? await openSafetensorsFile(path)
    : await openCheckpoint(join(path, WEIGHTS_STEM[modelClass.library]), options);
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
      close: () => weights.close(),
    };
  } catch (error) {
    await weights.close();
    throw error;
  }
}

/**
 * Saves a model so that `from_pretrained` of diffusers or transformers reads it: config.json and the weights, under their
 * names, in shards with an index above `maxShardSize`. Makes the folder; weights that it held before are replaced once all
 * that is new has reached the disk.
 *
 * @throws SdxsError: MISSING_PARAMETER, SHAPE_MISMATCH, DTYPE_MISMATCH or UNEXPECTED_PARAMETER where the weights do not fit
 * the configuration; FILE_FAILURE, as where the disk is full; INVALID_ARGUMENT for a weight beyond F16's range. The folder
 * is then as it was.
 *
 * @example
 * await saveModel("student/unet", { className: "UNet2DConditionModel", config, params }, { dtype: "F16" });
 */
export async function saveModel<N extends ModelClassName>(
  folder: string,
  model: Model<N>,
  options: SaveModelOptions = {},
): Promise<void> {
  checkModel(folder, model);
  const { className, config, params, otherFields = {} } = model;
  const modelClass: ModelClass<ModelConfigs[N]> = modelClasses[className];
  const { dtype = "F32" } = options;
  const isDiffusers = modelClass.library === "diffusers";
  const json = {
    ...(isDiffusers ? { _class_name: className } : { architectures: [className] }),
    ...otherFields,
    ...modelClass.fields?.(config),
    ...config,
    ...(isDiffusers ? {} : { torch_dtype: TORCH_DTYPE[dtype] }),
  };
  await mkdir(folder, { recursive: true });
  await writeCheckpoint(join(folder, WEIGHTS_STEM[modelClass.library]), params, {
    ...options,
    files: { "config.json": `${JSON.stringify(json, null, 2)}\n` },
  });
}

/** Throws what `saveModel` throws for weights that do not fit. */
export function checkModel<N extends ModelClassName>(folder: string, { className, config, params }: Model<N>): void {
  const modelClass: ModelClass<ModelConfigs[N]> = modelClasses[className];
  inMessages(`saveModel: ${folder}`, () => checkParameters(modelClass.parameters(config), params));
}

async function readConfig(folder: string): Promise<unknown> {
  const path = join(folder, "config.json");
  try {
    return await readJsonFile(path);
  } catch (error) {
    if (!(error instanceof SdxsError) || error.code !== "MISSING_FILE") throw error;
    const isPipeline = await access(join(folder, "model_index.json")).then(
      () => true,
      () => false,
    );
    throw new SdxsError(
      "MISSING_FILE",
      isPipeline
        ? `${folder} is a whole pipeline's folder. Pass that of one of its models, as ${join(folder, "unet")}, or load it by loadPipelineFolder.`
        : `There is no ${path}, so the weights beside it cannot be understood. Fetch it, pass its content as the option ` +
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

/** Compares what is stored with what the model needs, and gives what reads it. */
function openParameters<C>(
  path: string,
  weights: SafetensorsFile,
  { parameters, parametersOf = (stored) => ({ ...stored }) }: ModelClass<C>,
  config: C,
): () => Promise<HostParams> {
  const specs = parameters(config);
  const storedNames = parametersOf(Object.fromEntries(weights.names.map((name) => [name, name])));
  const found = mapTensors(storedNames, (name) => {
    const { dtype, shape } = weights.info(name);
    return { shape, dtype: FLOAT_TYPES.includes(dtype) ? "float32" : dtype };
  });
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
