import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { exportStage, exportStages, type ExportStageOptions } from "@sdxs/runtime/onnx";
import { InvalidArgumentError } from "@sdxs/tensor";
import { replaceFiles } from "@sdxs/tensor/node";
import { oneOf, pictureSize, readCommandLine, required, wholeNumber } from "./command-line.js";
import { loadComponents, modelUsage } from "./open-pipeline.js";
import type { Terminal } from "./terminal.js";

export const exportUsage = `sdxs export MODEL --out FOLDER [options]

Writes stages of a one-step pipeline as ONNX files, FOLDER/STAGE.onnx, and prints their paths. Weights of 1 GiB and
more go to STAGE.onnx.data beside it.
${modelUsage}

  --out FOLDER          made if it is not there
  --stage STAGE         ${exportStages.join(", ")}; may be repeated; default whole
  --size WxH            pixels, or any; default: what the model was trained on
  --batch N             pictures at a time, or any; default 1
  --precision P         of the stored weights, fp32 (default) or fp16
  --compute P           fp32 (default), or fp16 where it is exact enough, for GPUs: then its weights are stored so, too`;

const sizeOrAny = (size: string): Pick<ExportStageOptions, "width" | "height"> =>
  size === "any" ? { width: size, height: size } : pictureSize("--size", size);

/** Chosen: far enough below the 2 GB that an ONNX file may have. */
const EXTERNAL_FROM_BYTES = 2 ** 30;

export async function exportModel(args: readonly string[], terminal: Terminal): Promise<void> {
  const { values, operands } = readCommandLine("export", args, ["MODEL"], {
    out: { type: "string" },
    stage: { type: "string", multiple: true, default: ["whole"] },
    size: { type: "string" },
    batch: { type: "string", default: "1" },
    precision: { type: "string" },
    compute: { type: "string", default: "fp32" },
  });
  const folder = required("export", "--out", values.out);
  const stages = [...new Set(values.stage.map((stage) => oneOf("--stage", stage, exportStages)))];
  if (values.size !== undefined && stages.every((stage) => stage === "text_encoder")) {
    throw new InvalidArgumentError("--size has no effect on the text encoder, which takes words alone: leave it out.");
  }
  const precision = oneOf("--precision", values.precision ?? "fp32", ["fp32", "fp16"]);
  if (values.precision === "fp32" && values.compute === "fp16") {
    throw new InvalidArgumentError(
      "--precision fp32 has no effect with --compute fp16, which stores fp16: leave it out.",
    );
  }
  const float = { fp32: "float32", fp16: "float16" } as const;
  const options = {
    weights: float[precision],
    precision: float[oneOf("--compute", values.compute, ["fp32", "fp16"])],
    batch: values.batch === "any" ? "any" : wholeNumber("--batch", values.batch, 1),
    ...(values.size !== undefined && sizeOrAny(values.size)),
  } as const;

  const components = await loadComponents(operands[0]!, terminal);
  await mkdir(folder, { recursive: true });
  for (const stage of stages) {
    terminal.signal.throwIfAborted();
    const externalName = `${stage}.onnx.data`;
    const { model, external } = exportStage(components, stage, {
      ...options,
      externalName,
      externalFromBytes: EXTERNAL_FROM_BYTES,
    });
    const path = join(folder, `${stage}.onnx`);
    const weights = Object.entries(external).map(([name, chunks]) => ({ path: join(folder, name), chunks }));
    await replaceFiles([...weights, { path, chunks: [model] }]);
    terminal.out(path);
  }
}
