import { readdir, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { escaped, openWeights, type OpenWeightsOptions } from "../weights/checkpoint.js";
import { InvalidArgumentError } from "../core/errors.js";
import type { HostTensor } from "../core/host-tensor.js";
import { formatJson } from "../core/json.js";
import type { SafetensorsFile } from "../weights/model-files.js";
import type { TensorMap } from "../core/ops.js";
import { safetensorsChunks, type WriteSafetensorsOptions } from "../weights/safetensors.js";
import { diskFiles, replaceFiles, type FileContent } from "./files.js";

export type OpenCheckpointOptions = OpenWeightsOptions;

export interface WriteCheckpointOptions extends Pick<WriteSafetensorsOptions, "dtype"> {
  /** The most bytes of tensors in one file; more go to several files with an index. Default 10e9, as in diffusers. */
  readonly maxShardSize?: number;
  /** Texts that are replaced together with the weights, by file name: `{ "config.json": "..." }`. */
  readonly files?: Readonly<Record<string, string>>;
}

/** diffusers' default of max_shard_size, "10GB". */
const MAX_SHARD_BYTES = 10e9;

/**
 * Opens a model's weights in a folder, whether they are one file or several with an index; see `openWeights` of
 * `@sdxs/tensor` for what it throws.
 *
 * @param path Folder and stem: "unet/diffusion_pytorch_model" for diffusers, "text_encoder/model" for transformers.
 *
 * @example
 * const weights = await openCheckpoint("unet/diffusion_pytorch_model", { variant: "fp16" });
 * for (const name of weights.names) use(name, await weights.read(name));
 * await weights.close();
 */
export async function openCheckpoint(path: string, options: OpenCheckpointOptions = {}): Promise<SafetensorsFile> {
  return openWeights(diskFiles(dirname(path)), basename(path), options);
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
    texts.unshift({ name: `${stem}.safetensors.index.json`, chunks: [`${formatJson(index, 2)}\n`] });
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

/** Whether a file holds weights of this stem without a variant. */
function isWeightsName(name: string, stem: string): boolean {
  return new RegExp(`^${escaped(stem)}(-\\d{5}-of-\\d{5})?\\.safetensors(\\.index\\.json)?$`).test(name);
}
