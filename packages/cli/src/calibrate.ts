import { calibratePipeline } from "@sdxs/runtime";
import { InvalidArgumentError } from "@sdxs/tensor";
import { replaceFile } from "@sdxs/tensor/node";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { pictureSize, readCommandLine } from "./command-line.js";
import { loadComponents, modelUsage, samplingOf, samplingOptions, samplingUsage } from "./open-pipeline.js";
import { importOnnxRuntime } from "./onnxruntime.js";
import type { Terminal } from "./terminal.js";

export const calibrateUsage = `sdxs calibrate MODEL --prompt TEXT [--prompt TEXT ...] [options]

Draws a picture of each prompt and writes the ranges of what the networks compute, for --int8 of generate, serve and bench.
Some ten prompts like those to come suffice.
${modelUsage}

  --prompt TEXT         may be repeated
${samplingUsage}
  --size WxH            pixels; default: what the model was trained on
  --out FILE.json       default int8.json`;

export async function calibrate(args: readonly string[], terminal: Terminal): Promise<void> {
  const { values, operands } = readCommandLine("calibrate", args, ["MODEL"], {
    prompt: { type: "string", multiple: true },
    ...samplingOptions,
    size: { type: "string" },
    out: { type: "string", default: "int8.json" },
  });
  const { prompt: prompts = [], out } = values;
  if (prompts.length === 0) throw new InvalidArgumentError("Give at least one --prompt. See: sdxs calibrate --help");
  const size = values.size !== undefined && pictureSize("--size", values.size);
  const sampling = samplingOf(values);
  const components = await loadComponents(operands[0]!, terminal, sampling.scheduler);
  const backend = onnxBackend({ ort: await importOnnxRuntime() });
  const calibration = await calibratePipeline({ components, backend, ...sampling }, prompts, {
    ...size,
    signal: terminal.signal,
  });
  await replaceFile(out, [JSON.stringify(calibration)]);
  terminal.out(out);
}
