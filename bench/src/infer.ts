import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseTextEncoderConfig, textEncoder, textEncoderParameters } from "@sdxs/runtime";
import { loadModel, type ModelClassName } from "@sdxs/runtime/node";
import {
  HostTensor,
  calibrate,
  mapTensors,
  random,
  scope,
  sizeOf,
  type Backend,
  type Calibration,
  type ParameterSpec,
  type Program,
  type TensorSpec,
} from "@sdxs/tensor";
import { publishedUNets, unet, unetParameters } from "@sdxs/tiny-unet";
import { autoencoderTinyParameters, autoencoderTinyPresets, decodeTiny } from "@sdxs/tiny-vae";
import * as ort from "onnxruntime-node";
import { withBackend } from "./backends.js";
import { runCommand } from "./command.js";
import {
  INFER_USAGE,
  ONNX_INT8,
  TORCH_EXPORT,
  parseInferArguments,
  type InferArguments,
  type InferBackend,
} from "./infer-arguments.js";
import { inferenceTable, type InferReport, type StageTimes } from "./infer-report.js";
import { machineLine, peakRssMb } from "./machine.js";
import { exportFromTorch, inferApart } from "./processes.js";
import { writeRandomModel } from "./random-checkpoint.js";
import { median } from "./statistics.js";

/** One network of a pipeline. */
interface Stage {
  readonly className: ModelClassName;
  readonly config: object;
  readonly specs: Readonly<Record<string, ParameterSpec>>;
  readonly inputs: Readonly<Record<string, TensorSpec>>;
  readonly program: Program;
  /** Small networks' weights are constants; large ones' are read where they were loaded, once in memory. */
  readonly weights: "frozen" | "params";
}

/** SDXS-512 for one image of 512x512: latents 64x64, prompts of 77 tokens, the text encoder of Stable Diffusion 2.1. */
const LATENTS = [1, 4, 64, 64];
const unetConfig = publishedUNets["sdxs-512"];
const decoderConfig = autoencoderTinyPresets.taesd;
const textConfig = parseTextEncoderConfig({
  hidden_size: 1024,
  intermediate_size: 4096,
  num_hidden_layers: 23,
  num_attention_heads: 16,
  hidden_act: "gelu",
});

const unetStage: Stage = {
  className: "UNet2DConditionModel",
  config: unetConfig,
  specs: unetParameters(unetConfig),
  inputs: {
    sample: { shape: LATENTS },
    timestep: { shape: [1] },
    encoder_hidden_states: { shape: [1, 77, unetConfig.cross_attention_dim] },
  },
  program: (ops, params, { sample, timestep, encoder_hidden_states: encoderHiddenStates }) => {
    const inputs = { sample: sample!, timestep: timestep!, encoderHiddenStates: encoderHiddenStates! };
    return { result: unet(ops, scope(ops, params), unetConfig, inputs).sample };
  },
  weights: "params",
};

const decoderStage: Stage = {
  className: "AutoencoderTiny",
  config: decoderConfig,
  specs: autoencoderTinyParameters(decoderConfig),
  inputs: { latents: { shape: LATENTS } },
  program: (ops, params, { latents }) => ({ result: decodeTiny(ops, scope(ops, params), decoderConfig, latents!) }),
  weights: "frozen",
};

const textStage: Stage = {
  className: "CLIPTextModel",
  config: textConfig,
  specs: textEncoderParameters(textConfig),
  inputs: { ids: { shape: [1, 77], dtype: "int32" } },
  program: (ops, params, { ids }) => ({
    result: textEncoder(ops, scope(ops, params), textConfig, ids!).lastHiddenState,
  }),
  weights: "params",
};

async function writeModel(folder: string, { className, config, specs }: Stage): Promise<void> {
  const [named, weightsFile] =
    className === "CLIPTextModel"
      ? ([{ architectures: [className] }, "model.safetensors"] as const)
      : ([{ _class_name: className }, "diffusion_pytorch_model.safetensors"] as const);
  await writeRandomModel(folder, JSON.stringify({ ...named, ...config }), weightsFile, specs);
}

function randomInputs(specs: Stage["inputs"]): Record<string, HostTensor> {
  return mapTensors(specs, ({ shape, dtype }, name) =>
    dtype === "int32" ? new HostTensor(shape, new Int32Array(sizeOf(shape)).fill(1)) : random(0, name).normal(shape),
  );
}

/** A stage that stays loaded, as in a pipeline, and how long it took. */
interface TimedStage {
  readonly times: StageTimes;
  dispose(): Promise<void>;
}

async function timeStage<D>(
  backend: Backend<D>,
  folder: string,
  stage: Stage,
  runs: number,
  int8?: Calibration,
): Promise<TimedStage> {
  const begin = performance.now();
  const { program, inputs: specs, className } = stage;
  const load = loadModel(folder, { className });
  const isFrozen = stage.weights === "frozen" || int8 !== undefined;
  const compiled = await (isFrozen
    ? backend.compile(program, { inputs: specs, frozen: (await load).params, ...(int8 && { int8 }) })
    : // While the weights are being read.
      backend.compile(program, { inputs: specs, params: stage.specs, arrangeParams: true }));
  const device = isFrozen ? {} : compiled.upload((await load).params, { consume: true });
  const loadMs = performance.now() - begin;
  const inputs = randomInputs(stage.inputs);
  const run = async (): Promise<void> => {
    const { result } = await compiled.run(device, inputs);
    await backend.download(result!);
    backend.dispose(result!);
  };
  return {
    times: { loadMs: Math.round(loadMs), ...(await timeRuns(run, runs)) },
    async dispose() {
      await compiled.dispose();
      for (const tensor of Object.values(device)) backend.dispose(tensor);
    },
  };
}

async function timeRuns(run: () => Promise<unknown>, runs: number): Promise<Omit<StageTimes, "loadMs">> {
  const times: number[] = [];
  for (let index = 0; index <= runs; index++) {
    const begin = performance.now();
    await run();
    times.push(performance.now() - begin);
  }
  const [first = NaN, ...rest] = times;
  return { firstMs: Math.round(first), ms: Math.round(median(rest)) };
}

/** The ranges that a random input gives. */
async function calibrated<D>(backend: Backend<D>, folder: string, stage: Stage): Promise<Calibration> {
  const { params: frozen } = await loadModel(folder, { className: stage.className });
  return calibrate(backend, stage.program, { frozen, inputs: stage.inputs }, [randomInputs(stage.inputs)]);
}

async function inferOurs<D>(backend: Backend<D>, folder: string, runs: number, isInt8: boolean) {
  const ranges = async (name: string, stage: Stage) =>
    isInt8 ? calibrated(backend, join(folder, name), stage) : undefined;
  const stages = { unet: unetStage, decoder: decoderStage, textEncoder: textStage };
  for (const [name, stage] of Object.entries(stages)) await writeModel(join(folder, name), stage);
  const [unet, decoder] = [
    await timeStage(backend, join(folder, "unet"), unetStage, runs, await ranges("unet", unetStage)),
    await timeStage(backend, join(folder, "decoder"), decoderStage, runs, await ranges("decoder", decoderStage)),
  ];
  const unetAndDecoderPeakRssMb = peakRssMb();
  const text = await timeStage(backend, join(folder, "textEncoder"), textStage, runs);
  const report = {
    loadMs: unet.times.loadMs + decoder.times.loadMs + text.times.loadMs,
    textEncoder: text.times,
    unet: unet.times,
    decoder: decoder.times,
    unetAndDecoderPeakRssMb,
    peakRssMb: peakRssMb(),
  };
  for (const stage of [unet, decoder, text]) await stage.dispose();
  return report;
}

async function inferExported(folder: string, { python, runs }: InferArguments) {
  await exportFromTorch(python, "bench/configs/unet-sdxs-512.json", LATENTS.slice(2).join("x"), folder);
  const time = async (file: string, stage: Stage): Promise<StageTimes> => {
    const begin = performance.now();
    // As many threads as ours; onnxruntime's own choice takes half of a small machine's processors.
    const session = await ort.InferenceSession.create(join(folder, file), {
      intraOpNumThreads: 2,
      logSeverityLevel: 3,
    });
    const loadMs = performance.now() - begin;
    const feeds = mapTensors(
      randomInputs(stage.inputs),
      ({ data, shape }) => new ort.Tensor(data as Float32Array, shape),
    );
    return { loadMs: Math.round(loadMs), ...(await timeRuns(() => session.run(feeds), runs)) };
  };
  const unetTimes = await time("unet.onnx", unetStage);
  const decoder = await time("decoder.onnx", decoderStage);
  return { unet: unetTimes, decoder, unetAndDecoderPeakRssMb: peakRssMb() };
}

/** Measures one backend in this process. */
async function infer(backend: InferBackend, args: InferArguments): Promise<InferReport> {
  const folder = await mkdtemp(join(tmpdir(), "sdxs-infer-"));
  try {
    const report =
      backend === TORCH_EXPORT
        ? await inferExported(folder, args)
        : await withBackend(backend === ONNX_INT8 ? "onnx" : backend, (device) =>
            inferOurs(device, folder, args.runs, backend === ONNX_INT8),
          );
    return { model: args.model, backend, ...report };
  } finally {
    await rm(folder, { recursive: true });
  }
}

await runCommand(INFER_USAGE, async (given) => {
  const args = parseInferArguments(given);
  const { model, backends, rounds, runs, python } = args;
  const [first] = backends;
  if (backends.length === 1 && rounds === 1) {
    console.log(JSON.stringify(await infer(first!, args)));
    return;
  }
  const reports: InferReport[] = [];
  for (let round = 0; round < rounds; round++) {
    for (const backend of backends) {
      const report = await inferApart([
        "--model",
        model,
        "--backend",
        backend,
        "--runs",
        `${runs}`,
        "--python",
        python,
      ]);
      console.log(JSON.stringify(report));
      reports.push(report);
    }
  }
  console.log(`\n${inferenceTable(reports)}\n\n${machineLine()}`);
});
