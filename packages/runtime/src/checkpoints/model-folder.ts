import { mkdir, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { checkParameters, formatJson } from "@sdxs/tensor";
import { diskFiles, writeCheckpoint, type WriteCheckpointOptions } from "@sdxs/tensor/node";
import { BASE_VERSION, SHARDS_SINCE, latest, versionOf, withoutLaterDefaults } from "./diffusers-version.js";
import { inMessages } from "./in-messages.js";
import { modelClasses, type ModelClass, type ModelClassName, type ModelConfigs } from "./model-classes.js";
import {
  WEIGHTS_STEM,
  openModel,
  parametersOfModel,
  readOpened,
  type LoadModelOptions,
  type Model,
} from "./open-model.js";
import { singleFileError } from "./single-file.js";

export type SaveModelOptions = Pick<WriteCheckpointOptions, "dtype" | "maxShardSize">;

/**
 * One file of any size for diffusers, whose versions before 0.29 open no shards of its models; transformers opens them in all
 * versions: chosen, as diffusers has it since.
 */
const DEFAULT_SHARD_BYTES = { diffusers: Infinity, transformers: 10e9 } as const;

/** torch_dtype in transformers' config.json. */
const TORCH_DTYPE = { F32: "float32", F16: "float16", BF16: "bfloat16" } as const;

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
  if (options.config === undefined && (await isFile(path))) {
    const expected = "the folder of a model, or a file with the option config";
    const error = await singleFileError(diskFiles(dirname(path)), basename(path), expected);
    if (error !== undefined) throw error;
  }
  if (!path.endsWith(".safetensors")) return readOpened(openModel(diskFiles(path), options));
  return readOpened(openModel(diskFiles(dirname(path)), options, basename(path)));
}

/** false also for a path that does not exist: reading it throws. */
export const isFile = (path: string): Promise<boolean> =>
  stat(path).then(
    (found) => found.isFile(),
    () => false,
  );

/**
 * Saves a model so that `from_pretrained` of diffusers or transformers reads it: config.json and the weights, under their
 * names. `_diffusers_version` is the least version that knows all that is written.
 *
 * With `maxShardSize`, weights of more bytes go to several files with an index, which diffusers opens from 0.29 on; by default
 * its models are one file. Makes the folder; weights that it held before are replaced once all
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
  const { library } = modelClasses[model.className];
  const { dtype, maxShardSize = DEFAULT_SHARD_BYTES[library] } = options;
  await mkdir(folder, { recursive: true });
  await writeCheckpoint(join(folder, WEIGHTS_STEM[library]), model.params, {
    ...(dtype && { dtype }),
    maxShardSize,
    files: { "config.json": `${formatJson(configJson(model, options), 2)}\n` },
  });
}

/** What config.json holds. */
function configJson<N extends ModelClassName>(
  { className, config, otherFields, params }: Model<N>,
  { dtype = "F32", maxShardSize = Infinity }: SaveModelOptions,
): Readonly<Record<string, unknown>> {
  const modelClass: ModelClass<ModelConfigs[N]> = modelClasses[className];
  const fields = { ...otherFields, ...modelClass.fields?.(config), ...config };
  if (modelClass.library === "transformers") {
    return { architectures: [className], ...fields, torch_dtype: TORCH_DTYPE[dtype] };
  }
  const written = withoutLaterDefaults(className, fields);
  const bytes = Object.values(params).reduce((sum, { data }) => sum + data.length * (dtype === "F32" ? 4 : 2), 0);
  const version = latest([versionOf(className, written), ...(bytes > maxShardSize ? [SHARDS_SINCE] : [])]);
  return { _class_name: className, _diffusers_version: version, ...written };
}

/** The least version of diffusers that opens what `saveModel` writes. */
export function savedVersion(model: Model, options: SaveModelOptions): string {
  return (configJson(model, options)["_diffusers_version"] as string | undefined) ?? BASE_VERSION;
}

/** Throws what `saveModel` throws for weights that do not fit. */
export function checkModel<N extends ModelClassName>(folder: string, { className, config, params }: Model<N>): void {
  const modelClass: ModelClass<ModelConfigs[N]> = modelClasses[className];
  inMessages(`saveModel: ${folder}`, () => checkParameters(parametersOfModel(modelClass, config, params), params));
}
