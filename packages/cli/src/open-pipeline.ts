import { existsSync } from "node:fs";
import { createPipeline, fetchPipeline, type Pipeline, type PipelineOptions } from "@sdxs/runtime";
import { diskCache, loadPipelineFolder } from "@sdxs/runtime/node";
import { onnxBackend } from "@sdxs/tensor/onnx";
import * as ort from "onnxruntime-node";
import { finite, given, wholeNumber } from "./command-line.js";
import { readCalibration } from "./int8.js";
import type { Terminal } from "./terminal.js";

export const modelUsage = `MODEL is the folder of a pipeline, as diffusers saves one, its address, or "owner/name" on huggingface.co; files that
are fetched are kept for the next time.`;

/** The components that drawing takes. */
export async function loadComponents(model: string, { signal, progress }: Terminal) {
  const only = ["unet", "vae", "text_encoder", "tokenizer", "scheduler"] as const;
  if (!isOnTheWeb(model)) return (await loadPipelineFolder(model, { only })).components;
  const onProgress = ({ loaded, total }: { readonly loaded: number; readonly total: number }): void =>
    progress?.(`${inMegabytes(loaded)} of ${inMegabytes(total)} MB`);
  return (await fetchPipeline(model, { only, cache: diskCache(), signal, onProgress })).components;
}

const isOnTheWeb = (model: string): boolean =>
  /^https?:\/\//.test(model) || (/^[\w.-]+\/[\w.-]+$/.test(model) && !model.startsWith(".") && !existsSync(model));

const inMegabytes = (bytes: number): string => (bytes / 1e6).toFixed(1);

export interface OpenPipeline {
  readonly pipeline: Pipeline;
  readonly components: Awaited<ReturnType<typeof loadComponents>>;
}

/** A pipeline on onnxruntime's CPU provider. */
export async function openPipeline(
  model: string,
  terminal: Terminal,
  defaults: Pick<PipelineOptions<unknown>, "steps" | "guidanceScale">,
  int8File?: string,
): Promise<OpenPipeline> {
  const int8 = int8File !== undefined && { int8: await readCalibration(int8File) };
  const components = await loadComponents(model, terminal);
  return { pipeline: createPipeline({ components, backend: onnxBackend({ ort }), ...defaults, ...int8 }), components };
}

/** Options of every command that draws. */
export const samplingOptions = { steps: { type: "string" }, guidance: { type: "string" } } as const;

export const samplingUsage = `  --steps N             of the sampler; default 1
  --guidance SCALE      classifier-free guidance, which one-step models do not take; default 1, none`;

export const samplingOf = (values: {
  readonly steps?: string | undefined;
  readonly guidance?: string | undefined;
}) => ({
  ...given("steps", values.steps, (text) => wholeNumber("--steps", text, 1)),
  ...given("guidanceScale", values.guidance, (text) => finite("--guidance", text)),
});
