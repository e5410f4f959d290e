import { existsSync } from "node:fs";
import { schedulerNames } from "@sdxs/diffusion";
import {
  createPipeline,
  fetchModel,
  fetchPipeline,
  type Pipeline,
  type PipelineOptions,
  type PipelineWarning,
  type TextualInversion,
} from "@sdxs/runtime";
import { loadModel, loadPipelineFolder } from "@sdxs/runtime/node";
import { InvalidArgumentError, MissingPackageError, SdxsError, type Backend } from "@sdxs/tensor";
import { fileTuningStore } from "@sdxs/tensor/node";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { DAWN_FEATURES, requestGpuDevice, webgpuBackend } from "@sdxs/tensor/webgpu";
import { finite, given, wholeNumber } from "./command-line.js";
import { embeddingUsage, readEmbeddings } from "./embeddings.js";
import { fetching } from "./fetching.js";
import { int8Usage, readCalibration } from "./int8.js";
import { importOnnxRuntime } from "./onnxruntime.js";
import { warner, type Terminal } from "./terminal.js";

export const modelUsage = `MODEL is the folder of a pipeline, as diffusers saves one, its address, or "owner/name" on huggingface.co; files that
are fetched are kept for the next time. HF_TOKEN, HF_ENDPOINT, HF_HOME, HF_HUB_CACHE and HF_HUB_OFFLINE act as in the hub's client.`;

/**
 * The components that drawing takes, without ControlNets; what cannot be drawn with is refused before its weights are read.
 *
 * @param scheduler that will take the place of the model's own, which then need not be supported
 */
export async function loadComponents(model: string, terminal: Terminal, scheduler?: string) {
  const warn = warner(terminal);
  const options = {
    purpose: "text-to-image",
    except: ["controlnet"],
    onWarning: ({ message }: PipelineWarning): void => warn(message),
  } as const;
  if (!isOnTheWeb(model)) return (await loadPipelineFolder(model, options)).components;
  const others = { ...(await fetching(terminal)), ...(scheduler !== undefined && { scheduler }) };
  return (await fetchPipeline(model, { ...options, ...others })).components;
}

/** Those ControlNets, or the pipeline's own where none are named. */
async function loadControlNets(model: string, named: readonly string[], terminal: Terminal) {
  const className = "ControlNetModel";
  const only = ["controlnet"] as const;
  if (named.length === 0) {
    const loading = isOnTheWeb(model)
      ? fetchPipeline(model, { only, ...(await fetching(terminal)) })
      : loadPipelineFolder(model, { only });
    const { components } = await loading.catch((error: unknown) => {
      if (!(error instanceof SdxsError && error.message.includes("has no controlnet;"))) throw error;
      throw new InvalidArgumentError(
        `--control needs a ControlNet, which ${model} has not: name one by --controlnet.`,
        {
          cause: error,
        },
      );
    });
    return components.controlnet;
  }
  const options = await fetching(terminal);
  return Promise.all(
    named.map((name) =>
      isOnTheWeb(name) ? fetchModel(name, { className, ...options }) : loadModel(name, { className }),
    ),
  );
}

const isOnTheWeb = (model: string): boolean =>
  /^https?:\/\//.test(model) || (/^[\w.-]+\/[\w.-]+$/.test(model) && !model.startsWith(".") && !existsSync(model));

export interface OpenPipeline {
  readonly pipeline: Pipeline;
  readonly components: Awaited<ReturnType<typeof loadComponents>>;
  readonly embeddings: readonly TextualInversion[];
  readonly warn: (message: string) => void;
}

/**
 * A pipeline on onnxruntime's CPU provider, or on a GPU.
 *
 * @param controlNets those named, or of none the pipeline's own. Default: without
 */
export async function openPipeline(
  model: string,
  terminal: Terminal,
  { gpu, int8File, embeddingFiles, ...defaults }: ReturnType<typeof drawingOf>,
  controlNets?: readonly string[],
): Promise<OpenPipeline> {
  if (gpu !== undefined && int8File !== undefined) {
    throw new InvalidArgumentError("--int8 is for processors: give it, or --gpu.");
  }
  const backend: PipelineOptions<unknown>["backend"] =
    gpu === undefined ? onnxBackend({ ort: await importOnnxRuntime() }) : await gpuBackend();
  const int8 = int8File !== undefined && { int8: await readCalibration(int8File) };
  const embeddings = await readEmbeddings(embeddingFiles);
  // First, since it is soon found where there is none.
  const controlnet = controlNets && (await loadControlNets(model, controlNets, terminal));
  const components = {
    ...(await loadComponents(model, terminal, defaults.scheduler)),
    ...(controlnet && { controlnet }),
  };
  const precision = gpu !== undefined && { precision: gpu };
  const warn = warner(terminal);
  const onWarning: PipelineOptions<unknown>["onWarning"] = ({ message }) => {
    warn(message);
  };
  return {
    pipeline: createPipeline({ components, backend, embeddings, ...defaults, ...int8, ...precision, onWarning }),
    components,
    embeddings,
    warn,
  };
}

/** Makes a backend on the GPU, and another where that one's device is lost. */
async function gpuBackend(): Promise<() => Promise<Backend<unknown>>> {
  const { create } = await import("webgpu").catch((cause: unknown) => {
    throw new MissingPackageError("webgpu", "--gpu", { cause });
  });
  const gpu = create([DAWN_FEATURES]);
  const open = async (): Promise<Backend<unknown>> =>
    webgpuBackend({ device: await requestGpuDevice(gpu), tuningStore: fileTuningStore() });
  // Where there is no GPU, that is said before anything is loaded.
  let first: Backend<unknown> | undefined = await open();
  return async () => {
    const backend = first ?? (await open());
    first = undefined;
    return backend;
  };
}

const GPU_PRECISIONS = ["float32", "float16"] as const;
type GpuPrecision = (typeof GPU_PRECISIONS)[number];

/** How the sampler draws. */
export const samplingOptions = {
  steps: { type: "string" },
  guidance: { type: "string" },
  scheduler: { type: "string" },
} as const;

export const samplingUsage = `  --steps N             of the sampler; default: what the model was made for
  --guidance SCALE      classifier-free guidance, which one-step models do not take; 1 or less: none; default: what the
                        model was made for
  --scheduler NAME      ${schedulerNames()
    .map(([, shortName]) => shortName)
    .join(", ")},
                        or a class of diffusers; default: the model's own`;

export const samplingOf = (values: {
  readonly steps?: string | undefined;
  readonly guidance?: string | undefined;
  readonly scheduler?: string | undefined;
}) => ({
  ...given("steps", values.steps, (text) => wholeNumber("--steps", text, 1)),
  ...given("guidanceScale", values.guidance, (text) => finite("--guidance", text)),
  ...given("scheduler", values.scheduler, scheduler),
});

function scheduler(text: string): string {
  const names = schedulerNames();
  if (names.some((known) => known.includes(text))) return text;
  throw new InvalidArgumentError(
    `--scheduler must be ${names.map(([, shortName]) => shortName).join(", ")}, or a class of diffusers, got "${text}".`,
  );
}

/** Options of every command that draws pictures: the sampler's, and what computes them. */
export const drawingOptions = {
  ...samplingOptions,
  embedding: { type: "string", multiple: true },
  int8: { type: "string" },
  gpu: { type: "string" },
} as const;

export const drawingUsage = `${samplingUsage}
${embeddingUsage}
${int8Usage}
  --gpu PRECISION       ${GPU_PRECISIONS.join(" or ")}: on the GPU, by the package webgpu, which is installed apart; default: on the processor`;

export const drawingOf = (
  values: Parameters<typeof samplingOf>[0] & {
    readonly embedding?: readonly string[] | undefined;
    readonly int8?: string | undefined;
    readonly gpu?: string | undefined;
  },
) => ({
  ...samplingOf(values),
  embeddingFiles: values.embedding ?? [],
  ...given("int8File", values.int8, (path) => path),
  ...given("gpu", values.gpu, gpuPrecision),
});

function gpuPrecision(text: string): GpuPrecision {
  const precision = GPU_PRECISIONS.find((known) => known === text);
  if (precision !== undefined) return precision;
  throw new InvalidArgumentError(`--gpu must be ${GPU_PRECISIONS.join(" or ")}, got "${text}".`);
}
