import { createPipeline, type Pipeline, type PipelineOptions } from "@sdxs/runtime";
import { loadPipelineFolder } from "@sdxs/runtime/node";
import { onnxBackend } from "@sdxs/tensor/onnx";
import * as ort from "onnxruntime-node";
import { finite, given, wholeNumber } from "./command-line.js";

/** The components that drawing takes. */
export const loadComponents = async (folder: string) =>
  (await loadPipelineFolder(folder, { only: ["unet", "vae", "text_encoder", "tokenizer", "scheduler"] })).components;

/** A pipeline on onnxruntime's CPU provider. */
export async function openPipeline(
  folder: string,
  defaults: Pick<PipelineOptions<unknown>, "steps" | "guidanceScale">,
): Promise<Pipeline> {
  return createPipeline({ components: await loadComponents(folder), backend: onnxBackend({ ort }), ...defaults });
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
