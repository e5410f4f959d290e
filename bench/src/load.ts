import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadModel } from "@sdxs/runtime/node";
import { HostTensor, mapTensors } from "@sdxs/tensor";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { parseUNetConfig, unetParameters } from "@sdxs/tiny-unet";
import * as ort from "onnxruntime-node";
import { runCommand } from "./command.js";
import { denoisingTask, randomInputs } from "./denoising-task.js";
import { FULL_SIZE_MODELS, LOAD_USAGE, parseLoadArguments, type LoadArguments } from "./load-arguments.js";
import { peakRssMb } from "./machine.js";
import { writeRandomModel } from "./random-checkpoint.js";

/** Forward passes of a U-Net that is loaded from `folder`. */
async function measure(folder: string, { model, weights, height, width }: LoadArguments) {
  const begin = performance.now();
  const { config, params } = await loadModel(folder, { className: "UNet2DConditionModel" });
  const loadMs = performance.now() - begin;
  const float32Bytes = Object.values(params).reduce((sum, { data }) => sum + data.byteLength, 0);
  const loadedRssMb = peakRssMb();

  const task = denoisingTask(config, { batch: 1, height, width });
  const inputs = randomInputs(task.inputs, 0);
  const backend = onnxBackend({ ort });
  const program = await backend.compile(task.predict, {
    ...(weights === "frozen" ? { frozen: params } : { params: mapTensors(params, ({ shape }) => ({ shape })) }),
    inputs: task.inputs,
  });
  // The first one also touches the memory of all activations for the first time.
  const forwardTimes: number[] = [];
  let output = HostTensor.scalar(NaN);
  for (let run = 0; run < 2; run++) {
    const start = performance.now();
    const { sample } = await program.run(weights === "frozen" ? {} : params, inputs);
    forwardTimes.push(Math.round(performance.now() - start));
    output = await backend.download(sample!);
    backend.dispose(sample!);
  }
  await program.dispose();
  return {
    model,
    weights,
    size: `${height}x${width}`,
    parameters: float32Bytes / 4,
    loadMs: Math.round(loadMs),
    compileMs: Math.round(program.compileMs),
    forwardMs: forwardTimes[0],
    secondForwardMs: forwardTimes[1],
    loadedRssMb,
    peakRssMb: peakRssMb(),
    peakOverFloat32: Math.round((100 * peakRssMb() * 2 ** 20) / float32Bytes) / 100,
    finite: output.data.every(Number.isFinite),
  };
}

async function writeModel(folder: string, configPath: string): Promise<void> {
  const json = await readFile(configPath, "utf8");
  const specs = unetParameters(parseUNetConfig(JSON.parse(json)));
  await writeRandomModel(folder, json, "diffusion_pytorch_model.safetensors", specs);
}

await runCommand(LOAD_USAGE, async (given) => {
  const args = parseLoadArguments(given);
  const folder = await mkdtemp(join(tmpdir(), "sdxs-load-"));
  try {
    await writeModel(folder, FULL_SIZE_MODELS[args.model].config);
    console.log(JSON.stringify(await measure(folder, args)));
  } finally {
    await rm(folder, { recursive: true });
  }
});
