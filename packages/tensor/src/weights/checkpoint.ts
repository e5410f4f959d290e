import { InvalidArgumentError, MalformedFileError, SdxsError } from "../core/errors.js";
import { readJson, type ModelFiles, type SafetensorsFile } from "./model-files.js";
import { withFloat8Scales } from "./scaled-float8.js";

export interface OpenWeightsOptions {
  /**
   * Which of several sets of weights: "fp16" for diffusion_pytorch_model.fp16.safetensors. Default: the one without, or
   * else the only one there is.
   */
  readonly variant?: string;
}

/** Weights that Python stores as pickled objects. */
const PICKLE = /\.(bin|ckpt|pt|pth)$/;
/** The variant to look for where files cannot be listed and none is given: the most common on the hub. */
const COMMON_VARIANT = "fp16";

/**
 * Opens a model's weights, whether they are one file or several with an index. Headers are read now, each tensor by `read`.
 * 8-bit weights that have scales beside them ("scaled_fp8", as ComfyUI stores them) are multiplied by these.
 *
 * @param stem What the files' names begin with: "diffusion_pytorch_model" for diffusers, "model" for transformers.
 * @throws SdxsError with code MISSING_FILE where the weights or a file of the index are missing,
 * UNSUPPORTED_OPERATION where there are pickled weights only or quantised ones, MalformedFileError for a broken file or index.
 *
 * @example
 * const weights = await openWeights(diskFiles("unet"), "diffusion_pytorch_model", { variant: "fp16" });
 * for (const name of weights.names) use(name, await weights.read(name));
 * await weights.close();
 */
export async function openWeights(
  files: ModelFiles,
  stem: string,
  options: OpenWeightsOptions = {},
): Promise<SafetensorsFile> {
  const present = await files.list(candidates(stem, options.variant ?? COMMON_VARIANT));
  const weights = weightsFiles(stem, present);
  const variant = options.variant ?? onlyVariant(weights);
  // As diffusers does, the index goes before a single file.
  const chosen = weights.find((file) => file.variant === variant)?.name;
  if (chosen === undefined) {
    const wanted = variant === undefined ? `${stem}.safetensors` : `${stem}.${variant}.safetensors`;
    throw noWeights(files.location(), wanted, weights, present);
  }
  const opened = await (chosen.endsWith(".json") ? openShards(files, chosen) : files.openSafetensors(chosen));
  return openScaled(opened, files.location(chosen));
}

/**
 * Opens a model's weights in one file by its name.
 *
 * @throws what `openWeights` throws for a file.
 */
export async function openWeightsFile(files: ModelFiles, name: string): Promise<SafetensorsFile> {
  return openScaled(await files.openSafetensors(name), files.location(name));
}

/** With the scales of 8-bit layers applied; closes what it refuses. */
async function openScaled(file: SafetensorsFile, location: string): Promise<SafetensorsFile> {
  try {
    return withFloat8Scales(file);
  } catch (error) {
    await file.close();
    if (!(error instanceof SdxsError)) throw error;
    throw new SdxsError(error.code, `${location}: ${error.message}`, { cause: error });
  }
}

/** Names to try where files cannot be listed. */
function candidates(stem: string, variant: string): string[] {
  return [
    `${stem}.safetensors.index.json`,
    `${stem}.safetensors.index.${variant}.json`,
    `${stem}.safetensors.${variant}.index.json`,
    `${stem}.safetensors`,
    `${stem}.${variant}.safetensors`,
    `${stem === "model" ? "pytorch_model" : stem}.bin`,
  ];
}

async function openShards(files: ModelFiles, indexName: string): Promise<SafetensorsFile> {
  const indexPath = files.location(indexName);
  const shardOf = weightMap(indexPath, await readJson(files, indexName));
  const shardNames = [...new Set(shardOf.values())].sort();
  const present = await files.list(shardNames);
  const missing = shardNames.filter((name) => !present.includes(name));
  if (missing.length > 0) {
    throw new SdxsError(
      "MISSING_FILE",
      `${indexPath} names files that are not beside it:\n${missing.map((name) => `  ${name}`).join("\n")}\nFetch them too.`,
    );
  }
  const shards = new Map<string, SafetensorsFile>();
  const close = async (): Promise<void> => {
    for (const shard of shards.values()) await shard.close();
  };
  try {
    for (const name of shardNames) shards.set(name, await files.openSafetensors(name));
    const lacking = [...shardOf].filter(([tensor, name]) => !shards.get(name)?.names.includes(tensor));
    if (lacking.length > 0) {
      const lines = lacking.map(([tensor, name]) => `  ${tensor}, in ${name}`);
      throw new MalformedFileError(
        `${indexPath} names tensors that their files lack:\n${lines.join("\n")}\nFetch the index and its files again, all from one place.`,
      );
    }
  } catch (error) {
    await close();
    throw error;
  }
  const holder = (tensor: string): SafetensorsFile => {
    const shard = shards.get(shardOf.get(tensor) ?? "");
    if (shard !== undefined) return shard;
    throw new InvalidArgumentError(`${indexPath} has no tensor "${tensor}"; it has ${shardOf.size}, see the names.`);
  };
  return {
    names: [...shards].flatMap(([name, { names }]) => names.filter((tensor) => shardOf.get(tensor) === name)),
    metadata: {},
    info: (tensor) => holder(tensor).info(tensor),
    read: async (tensor) => holder(tensor).read(tensor),
    close,
  };
}

/** The file of each tensor. Names of files that would lead out of the folder are refused. */
function weightMap(path: string, json: unknown): Map<string, string> {
  const map = typeof json === "object" && json !== null && "weight_map" in json ? json.weight_map : undefined;
  if (typeof map !== "object" || map === null || Array.isArray(map)) {
    throw new MalformedFileError(`${path} needs a "weight_map" from tensors to files. Fetch it again.`);
  }
  const entries = Object.entries(map).map(([tensor, file]: [string, unknown]): [string, string] => {
    if (typeof file === "string" && /^[^/\\]+\.safetensors$/.test(file)) return [tensor, file];
    throw new MalformedFileError(
      `${path} says that the tensor "${tensor}" is in ${JSON.stringify(file)}; it must be a .safetensors file beside it.`,
    );
  });
  return new Map(entries);
}

interface WeightsFile {
  readonly name: string;
  /** Undefined for the weights without one. */
  readonly variant: string | undefined;
}

/** A variant's name; what follows a hyphen begins with a letter, other than in a shard's "fp16-00001-of-00002". */
const VARIANT = "\\w+(?:-[a-zA-Z]\\w*)*";

/** The indices and single files of weights in a folder. diffusers and transformers name a variant's index differently. */
function weightsFiles(stem: string, present: readonly string[]): WeightsFile[] {
  const patterns = [
    `\\.safetensors\\.index(?:\\.(${VARIANT}))?\\.json`,
    `\\.safetensors\\.(${VARIANT})\\.index\\.json`,
    `(?:\\.(${VARIANT}))?\\.safetensors`,
  ];
  return patterns.flatMap((pattern) => {
    const whole = new RegExp(`^${escaped(stem)}${pattern}$`);
    return present.flatMap((name) => {
      const match = whole.exec(name);
      return match === null ? [] : [{ name, variant: match[1] }];
    });
  });
}

/** The variant that is the only one, if it has a name. */
function onlyVariant(files: readonly WeightsFile[]): string | undefined {
  const variants = new Set(files.map(({ variant }) => variant));
  return variants.size === 1 ? files[0]?.variant : undefined;
}

function noWeights(
  folder: string,
  wanted: string,
  files: readonly WeightsFile[],
  present: readonly string[],
): SdxsError {
  if (files.length > 0) {
    const others = files.map(
      ({ name, variant }) => `${name} (${variant === undefined ? "no variant" : `variant: "${variant}"`})`,
    );
    return new SdxsError(
      "MISSING_FILE",
      `${folder} has no ${wanted}. It has ${others.join(", ")}: choose one of these.`,
    );
  }
  const pickled = present.filter((name) => PICKLE.test(name));
  if (pickled.length > 0) {
    return new SdxsError(
      "UNSUPPORTED_OPERATION",
      `${folder} has no ${wanted}, only ${pickled.join(", ")}: pickled objects, which can run any code when they ` +
        `are opened and are not read here. Convert them in Python: model.save_pretrained(folder, safe_serialization=True).`,
    );
  }
  return new SdxsError("MISSING_FILE", `${folder} has no ${wanted}. Fetch it, or check the path.`);
}

/** A text as part of a regular expression. */
export const escaped = (text: string): string => text.replace(/[^\w]/g, "\\$&");
