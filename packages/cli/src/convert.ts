import { access } from "node:fs/promises";
import { join } from "node:path";
import { loadModel, loadPipelineFolder, saveModel, savePipelineFolder } from "@sdxs/runtime/node";
import { InvalidArgumentError } from "@sdxs/tensor";
import { readSafetensorsFile, writeSafetensorsFile } from "@sdxs/tensor/node";
import { oneOf, readCommandLine, required } from "./command-line.js";
import type { Terminal } from "./terminal.js";

export const convertUsage = `sdxs convert IN OUT --precision P

Stores weights in another precision. IN is the folder of a pipeline or of one model, or a safetensors file; OUT is of the same
kind. What diffusers' from_pretrained reads stays so; components without use here, as safety checkers, are left out.

  --precision P         fp32, fp16 or bf16`;

const dtypes = { fp32: "F32", fp16: "F16", bf16: "BF16" } as const;

export async function convert(args: readonly string[], terminal: Terminal): Promise<void> {
  const { values, operands } = readCommandLine("convert", args, ["IN", "OUT"], { precision: { type: "string" } });
  const precision = required("convert", "--precision", values.precision);
  const dtype = dtypes[oneOf("--precision", precision, ["fp32", "fp16", "bf16"])];
  const [from, to] = operands as [string, string];
  if (isWeightsFile(from) !== isWeightsFile(to)) {
    throw new InvalidArgumentError(
      `IN and OUT must both be safetensors files or both be folders, got "${from}" "${to}".`,
    );
  }
  if (isWeightsFile(from)) {
    const { tensors, metadata } = await readSafetensorsFile(from);
    await writeSafetensorsFile(to, tensors, { dtype, metadata });
  } else if (await holdsModel(from)) {
    await saveModel(to, await loadModel(from), { dtype });
  } else {
    const pipeline = await loadPipelineFolder(from);
    if (pipeline.skipped.length > 0) terminal.note(`sdxs: left out: ${pipeline.skipped.join(", ")}`);
    await savePipelineFolder(to, pipeline, { dtype });
  }
  terminal.out(to);
}

const isWeightsFile = (path: string): boolean => path.endsWith(".safetensors");

const holdsModel = (folder: string): Promise<boolean> =>
  access(join(folder, "config.json")).then(
    () => true,
    () => false,
  );
