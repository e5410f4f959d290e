import { checkSchedulerConfig, withScheduler, type SchedulerConfig } from "@sdxs/diffusion";
import type { Address } from "@sdxs/tensor";
import type { ModelClassName } from "./model-classes.js";
import { openModel, readOpened, type LoadModelOptions, type Model } from "./open-model.js";
import {
  loadPipelineFiles,
  type LoadPipelineFolderOptions,
  type LoadedPipelineFolder,
  type LoadedTextToImage,
  type TextToImagePurpose,
} from "./open-pipeline.js";
import type { ComponentName, PipelineComponents } from "./components.js";
import { addressOf } from "./hub.js";
import { pipelineFileError, weightsFileName } from "./single-file.js";
import { webFiles, type FetchOptions } from "./web-files.js";

export interface FetchPipelineOptions extends FetchOptions {
  /** What `createPipeline` will be given in place of the folder's scheduler, which then need not be supported. */
  readonly scheduler?: string | SchedulerConfig;
}

/**
 * Loads the components of a pipeline from the web as `loadPipelineFolder` of `@sdxs/runtime/node` does from a folder: in
 * browsers and in Node. The headers of all files, and whether the scheduler is supported, are checked before any weights are
 * fetched. Each file is compared with all
 * that is known of it: its length, the hub's hashes, HTTP's digests, and the SHA-256 that the caller gives.
 *
 * @param source "owner/name" for a model of huggingface.co, or the address under which model_index.json lies.
 * @throws SdxsError: those of `loadPipelineFolder`, with addresses in the messages; FILE_FAILURE where the server cannot be
 * reached, stays silent, is busy or breaks off, also after it was asked again; ACCESS_DENIED where it refuses; MALFORMED_FILE also
 * where a file differs from its length or a hash, or is a page; ABORTED; INVALID_ARGUMENT for a source that is no address.
 *
 * @example
 * const { components } = await fetchPipeline("owner/sdxs-512", {
 *   purpose: "text-to-image",
 *   onProgress: ({ loaded, total }) => (bar.value = loaded / total),
 * });
 * const pipeline = createPipeline({ components, backend });
 */
export async function fetchPipeline<K extends ComponentName>(
  source: string | Address,
  options: LoadPipelineFolderOptions<K> & FetchPipelineOptions & { readonly only: readonly K[] },
): Promise<LoadedPipelineFolder<Pick<PipelineComponents, K>>>;
export async function fetchPipeline(
  source: string | Address,
  options: TextToImagePurpose & FetchPipelineOptions,
): Promise<LoadedTextToImage>;
export async function fetchPipeline(
  source: string | Address,
  options?: LoadPipelineFolderOptions & FetchPipelineOptions,
): Promise<LoadedPipelineFolder<Partial<PipelineComponents>>>;
export async function fetchPipeline(
  source: string | Address,
  options: LoadPipelineFolderOptions & FetchPipelineOptions = {},
): Promise<LoadedPipelineFolder<Partial<PipelineComponents>>> {
  const address = addressOf(source, options.revision, options.endpoint);
  const files = webFiles(address, options);
  const file = weightsFileName(decodeURIComponent(address.pathname));
  if (file !== undefined) throw await pipelineFileError(files, file, "the address of a pipeline's folder");
  const { scheduler } = options;
  const loaded = await loadPipelineFiles("fetchPipeline", files, options, (own) => {
    // Pipelines of Stable Diffusion set this field whatever the folder says.
    const config = { ...own, clip_sample: false };
    checkSchedulerConfig(typeof scheduler === "string" ? withScheduler(config, scheduler) : (scheduler ?? config));
  });
  files.checkAllRead();
  return loaded;
}

/**
 * Loads one model from the web as `loadModel` of `@sdxs/runtime/node` does from a folder or a file.
 *
 * @param source "owner/name" for a model of huggingface.co, or the address under which config.json lies, or that of a
 * .safetensors file with the option `config`.
 * @throws SdxsError: those of `loadModel` and, for what is fetched, of `fetchPipeline`.
 *
 * @example
 * const vae = await fetchModel("madebyollin/taesd", { className: "AutoencoderTiny" });
 */
export async function fetchModel<N extends ModelClassName = ModelClassName>(
  source: string | Address,
  options: LoadModelOptions<N> & FetchOptions = {},
): Promise<Model<N>> {
  const address = addressOf(source, options.revision, options.endpoint);
  const file = /[^/]+\.safetensors$/.exec(address.pathname)?.[0];
  const files = webFiles(address, options);
  const model = await readOpened(openModel(files, options, file && decodeURIComponent(file)));
  files.checkAllRead();
  return model;
}
