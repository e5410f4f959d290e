import { readdir, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { InvalidArgumentError, MalformedFileError, SdxsError } from "../errors.js";
import type { HostTensor } from "../host-tensor.js";
import type { TensorMap } from "../ops.js";
import { safetensorsChunks, type WriteSafetensorsOptions } from "../safetensors.js";
import { openSafetensorsFile, readJsonFile, replaceFiles, type FileContent, type SafetensorsFile } from "./files.js";

export interface OpenCheckpointOptions {
  /**
   * Which of several sets of weights: "fp16" for diffusion_pytorch_model.fp16.safetensors. Default: the one without, or
   * else the only one there is.
   */
  readonly variant?: string;
}

export interface WriteCheckpointOptions extends Pick<WriteSafetensorsOptions, "dtype"> {
  /** The most bytes of tensors in one file; more go to several files with an index. Default 10e9, as in diffusers. */
  readonly maxShardSize?: number;
  /** Texts that take their names together with the weights, by file name: `{ "config.json": "..." }`. */
  readonly files?: Readonly<Record<string, string>>;
}

/** diffusers' default of max_shard_size, "10GB". */
const MAX_SHARD_BYTES = 10e9;

/** Weights that Python stores as pickled objects. */
const PICKLE = /\.(bin|ckpt|pt|pth)$/;

/**
 * Opens a model's weights, whether they are one file or several with an index. Headers are read now, each tensor when it
 * is asked for.
 *
 * @param path Folder and stem: "unet/diffusion_pytorch_model" for diffusers, "text_encoder/model" for transformers.
 * @throws SdxsError with code MISSING_FILE where there is nothing to read or a file of the index is missing,
 * UNSUPPORTED_OPERATION where there are pickled weights only, MalformedFileError for a broken file or index.
 *
 * @example
 * const weights = await openCheckpoint("unet/diffusion_pytorch_model", { variant: "fp16" });
 * for (const name of weights.names) use(name, await weights.read(name));
 * await weights.close();
 */
export async function openCheckpoint(path: string, options: OpenCheckpointOptions = {}): Promise<SafetensorsFile> {
  const folder = dirname(path);
  const stem = basename(path);
  const present = await readdir(folder).catch((cause: unknown): never => {
    throw new SdxsError("MISSING_FILE", `There is no folder at ${folder}. Check the path.`, { cause });
  });
  const files = weightsFiles(stem, present);
  const variant = options.variant ?? onlyVariant(files);
  // As diffusers does, the index goes before a single file.
  const chosen = files.find((file) => file.variant === variant)?.name;
  if (chosen === undefined) {
    const wanted = variant === undefined ? `${stem}.safetensors` : `${stem}.${variant}.safetensors`;
    throw noWeights(folder, wanted, files, present);
  }
  return chosen.endsWith(".json") ? openShards(folder, chosen, present) : openSafetensorsFile(join(folder, chosen));
}

/**
 * Writes a model's weights under the names that `from_pretrained` of diffusers and transformers looks for: STEM.safetensors,
 * or above `maxShardSize` STEM-00001-of-00002.safetensors and so on with STEM.safetensors.index.json. Weights of that stem
 * that the folder held before are replaced or removed. No file takes its name before all have reached the disk.
 *
 * @param path Folder and stem, as for `openCheckpoint`. The folder must exist.
 * @throws SdxsError as `writeSafetensorsFile`; InvalidArgumentError for a `maxShardSize` that is no positive number.
 *
 * @example
 * await writeCheckpoint("unet/diffusion_pytorch_model", weights, { dtype: "F16" });
 */
export async function writeCheckpoint(
  path: string,
  tensors: TensorMap<HostTensor>,
  options: WriteCheckpointOptions = {},
): Promise<void> {
  const { dtype = "F32", maxShardSize = MAX_SHARD_BYTES, files = {} } = options;
  if (!(maxShardSize > 0)) {
    throw new InvalidArgumentError(`writeCheckpoint: maxShardSize must be a positive number, got ${maxShardSize}.`);
  }
  const folder = dirname(path);
  const stem = basename(path);
  const shards = split(tensors, dtype, maxShardSize);
  const shardName = (index: number): string =>
    shards.length === 1
      ? `${stem}.safetensors`
      : `${stem}-${fiveDigits(index + 1)}-of-${fiveDigits(shards.length)}.safetensors`;
  const weights = shards.map((shard, index) => ({
    name: shardName(index),
    // The metadata without which transformers refuses a file.
    chunks: safetensorsChunks(shard, { dtype, metadata: { format: "pt" } }),
  }));
  const texts = Object.entries(files).map(([name, text]) => ({ name, chunks: [text] }));
  if (shards.length > 1) {
    const weightMap = shards.flatMap((shard, index) =>
      Object.keys(shard).map((name) => [name, shardName(index)] as const),
    );
    const totalSize = Object.values(tensors).reduce((sum, tensor) => sum + storedBytes(tensor, dtype), 0);
    const index = {
      metadata: { total_size: totalSize },
      weight_map: Object.fromEntries(weightMap.sort(([a], [b]) => (a < b ? -1 : 1))),
    };
    texts.unshift({ name: `${stem}.safetensors.index.json`, chunks: [`${JSON.stringify(index, null, 2)}\n`] });
  }
  const contents = [...weights, ...texts];
  await replaceFiles(contents.map(({ name, chunks }): FileContent => ({ path: join(folder, name), chunks })));

  // The index first: without it the shards mean nothing.
  const written = new Set(contents.map(({ name }) => name));
  const isStale = (name: string): boolean => isWeightsName(name, stem) && !written.has(name);
  const stale = (await readdir(folder)).filter(isStale);
  stale.sort((a, b) => Number(b.endsWith(".json")) - Number(a.endsWith(".json")));
  for (const name of stale) await rm(join(folder, name), { force: true });
}

async function openShards(folder: string, indexName: string, present: readonly string[]): Promise<SafetensorsFile> {
  const indexPath = join(folder, indexName);
  const shardOf = weightMap(indexPath, await readJsonFile(indexPath));
  const shardNames = [...new Set(shardOf.values())].sort();
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
    for (const name of shardNames) shards.set(name, await openSafetensorsFile(join(folder, name)));
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
      `${path} says that the tensor "${tensor}" lies in ${JSON.stringify(file)}; it must be a .safetensors file beside it.`,
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
      `${folder} has no ${wanted}. It has ${others.join(", ")}: ask for one of these.`,
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

/** Tensors in their order, each to the current file while it fits. */
function split(
  tensors: TensorMap<HostTensor>,
  dtype: WriteSafetensorsOptions["dtype"],
  maxBytes: number,
): Record<string, HostTensor>[] {
  let entries: [string, HostTensor][] = [];
  const shards = [entries];
  let bytes = 0;
  for (const [name, tensor] of Object.entries(tensors)) {
    const size = storedBytes(tensor, dtype);
    if (entries.length > 0 && bytes + size > maxBytes) {
      entries = [];
      shards.push(entries);
      bytes = 0;
    }
    entries.push([name, tensor]);
    bytes += size;
  }
  return shards.map((shard) => Object.fromEntries(shard));
}

function storedBytes({ data, dtype }: HostTensor, stored: WriteSafetensorsOptions["dtype"]): number {
  return dtype === "float32" && stored !== "F32" ? data.byteLength / 2 : data.byteLength;
}

const fiveDigits = (value: number): string => String(value).padStart(5, "0");

const escaped = (text: string): string => text.replace(/[^\w]/g, "\\$&");

/** Whether a file holds weights of this stem without a variant. */
function isWeightsName(name: string, stem: string): boolean {
  return new RegExp(`^${escaped(stem)}(-\\d{5}-of-\\d{5})?\\.safetensors(\\.index\\.json)?$`).test(name);
}
