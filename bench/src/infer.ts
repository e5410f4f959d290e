import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseTextEncoderConfig, textEncoder, textEncoderParameters, type TextEncoderConfig } from "@sdxs/runtime";
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
import { parseUNetConfig, publishedUNets, unet, unetParameters, type UNetConfig } from "@sdxs/tiny-unet";
import {
  autoencoderTinyParameters,
  autoencoderTinyPresets,
  decodeTiny,
  parseAutoencoderTinyConfig,
  type AutoencoderTinyConfig,
} from "@sdxs/tiny-vae";
import { disableTelemetry } from "@sdxs/tensor/onnx";
import * as ort from "onnxruntime-node";
import { withBackend, type BackendName } from "./backends.js";
import { runCommand } from "./command.js";
import {
  INFER_USAGE,
  ONNX_INT8,
  ONNX_WEBGPU_FP16,
  TORCH,
  TORCH_CUDA,
  TORCH_EXPORT,
  WEBGPU_FP16,
  parseInferArguments,
  type InferArguments,
  type InferBackend,
  type InferModel,
} from "./infer-arguments.js";
import { inferenceTable, type InferReport, type StageTimes } from "./infer-report.js";
import { machineLine, peakRssMb } from "./machine.js";
import { exportFromTorch, inferApart, inferByTorch, type TorchModel } from "./processes.js";
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

/** What a model's networks are made for: one image. */
interface Configs {
  readonly unet: UNetConfig;
  readonly decoder: AutoencoderTinyConfig;
  readonly text: TextEncoderConfig;
  readonly latents: readonly number[];
  readonly tokens: number;
}

async function configsOf(model: InferModel): Promise<Configs> {
  if (model === "sdxs-512") {
    return {
      unet: publishedUNets["sdxs-512"],
      decoder: autoencoderTinyPresets.taesd,
      // Stable Diffusion 2.1's
      text: parseTextEncoderConfig({
        hidden_size: 1024,
        intermediate_size: 4096,
        num_hidden_layers: 23,
        num_attention_heads: 16,
        hidden_act: "gelu",
      }),
      latents: [1, 4, 64, 64],
      tokens: 77,
    };
  }
  const read = async (name: string): Promise<unknown> =>
    JSON.parse(await readFile(new URL(`../../recipes/emoji/student/${name}/config.json`, import.meta.url), "utf8"));
  const unetConfig = parseUNetConfig(await read("unet"));
  const text = parseTextEncoderConfig(await read("text_encoder"));
  const size = unetConfig.sample_size as number;
  return {
    unet: unetConfig,
    decoder: parseAutoencoderTinyConfig(await read("vae")),
    text,
    latents: [1, unetConfig.in_channels, size, size],
    tokens: text.max_position_embeddings,
  };
}

function stagesOf({ unet: unetConfig, decoder, text, latents: shape, tokens }: Configs) {
  const isLarge = sizeOf(shape) > 4096;
  return {
    unet: {
      className: "UNet2DConditionModel",
      config: unetConfig,
      specs: unetParameters(unetConfig),
      inputs: {
        sample: { shape },
        timestep: { shape: [1] },
        encoder_hidden_states: { shape: [1, tokens, unetConfig.cross_attention_dim] },
      },
      program: (ops, params, { sample, timestep, encoder_hidden_states: encoderHiddenStates }) => {
        const inputs = { sample: sample!, timestep: timestep!, encoderHiddenStates: encoderHiddenStates! };
        return { result: unet(ops, scope(ops, params), unetConfig, inputs).sample };
      },
      weights: isLarge ? "params" : "frozen",
    },
    decoder: {
      className: "AutoencoderTiny",
      config: decoder,
      specs: autoencoderTinyParameters(decoder),
      inputs: { latents: { shape } },
      program: (ops, params, { latents }) => ({ result: decodeTiny(ops, scope(ops, params), decoder, latents!) }),
      weights: "frozen",
    },
    textEncoder: {
      className: "CLIPTextModel",
      config: text,
      specs: textEncoderParameters(text),
      inputs: { ids: { shape: [1, tokens], dtype: "int32" } },
      program: (ops, params, { ids }) => ({
        result: textEncoder(ops, scope(ops, params), text, ids!).lastHiddenState,
      }),
      weights: isLarge ? "params" : "frozen",
    },
  } satisfies Record<string, Stage>;
}

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
interface TimedStage<D> {
  readonly times: StageTimes;
  /** @param given in place of the random inputs */
  run(given?: Readonly<Record<string, D>>): Promise<D>;
  dispose(): Promise<void>;
}

async function timeStage<D>(
  backend: Backend<D>,
  folder: string,
  stage: Stage,
  runs: number,
  {
    int8,
    precision = "float32",
  }: { readonly int8?: Calibration | undefined; readonly precision?: "float32" | "float16" },
): Promise<TimedStage<D>> {
  const begin = performance.now();
  const { program, inputs: specs, className } = stage;
  const load = loadModel(folder, { className });
  const isFrozen = stage.weights === "frozen" || int8 !== undefined || precision === "float16";
  const compiled = await (isFrozen
    ? backend.compile(program, { inputs: specs, frozen: (await load).params, precision, ...(int8 && { int8 }) })
    : // While the weights are being read.
      backend.compile(program, { inputs: specs, params: stage.specs, arrangeParams: true }));
  const device = isFrozen ? {} : compiled.upload((await load).params, { consume: true });
  const loadMs = performance.now() - begin;
  const inputs = randomInputs(stage.inputs);
  const run = async (given: Readonly<Record<string, D>> = {}): Promise<D> =>
    (await compiled.run(device, { ...inputs, ...given }))["result"]!;
  return {
    times: { loadMs: Math.round(loadMs), ...(await timeRuns(async () => fetchResult(backend, await run()), runs)) },
    run,
    async dispose() {
      await compiled.dispose();
      for (const tensor of Object.values(device)) backend.dispose(tensor);
    },
  };
}

async function fetchResult<D>(backend: Backend<D>, result: D): Promise<void> {
  await backend.download(result);
  backend.dispose(result);
}

async function timeRuns(run: () => Promise<unknown>, runs: number): Promise<Omit<StageTimes, "loadMs">> {
  const times: number[] = [];
  for (let index = 0; index <= runs; index++) {
    const begin = performance.now();
    await run();
    times.push(performance.now() - begin);
  }
  const [first = NaN, ...rest] = times;
  return { firstMs: tenths(first), ms: tenths(median(rest)) };
}

/** Pictures that follow each other in a stream. */
const STREAMED = 20;

/** The time of each of several pictures that are asked for without waiting, the last one fetched. */
async function timeStream<D>(backend: Backend<D>, picture: () => Promise<D>): Promise<number> {
  const begin = performance.now();
  for (let index = 1; index < STREAMED; index++) backend.dispose(await picture());
  await fetchResult(backend, await picture());
  return (performance.now() - begin) / STREAMED;
}

const tenths = (ms: number): number => Math.round(10 * ms) / 10;

/** The ranges that a random input gives. */
async function calibrated<D>(backend: Backend<D>, folder: string, stage: Stage): Promise<Calibration> {
  const { params: frozen } = await loadModel(folder, { className: stage.className });
  return calibrate(backend, stage.program, { frozen, inputs: stage.inputs }, [randomInputs(stage.inputs)]);
}

async function inferOurs<D>(
  backend: Backend<D>,
  folder: string,
  configs: Configs,
  runs: number,
  kind: "float32" | "float16" | "int8",
) {
  const precision = kind === "int8" ? "float32" : kind;
  const how = async (name: string, stage: Stage) => ({
    precision,
    int8: kind === "int8" ? await calibrated(backend, join(folder, name), stage) : undefined,
  });
  const stages = stagesOf(configs);
  for (const [name, stage] of Object.entries(stages)) await writeModel(join(folder, name), stage);
  const [unet, decoder] = [
    await timeStage(backend, join(folder, "unet"), stages.unet, runs, await how("unet", stages.unet)),
    await timeStage(backend, join(folder, "decoder"), stages.decoder, runs, await how("decoder", stages.decoder)),
  ];
  const picture = async (): Promise<D> => {
    const latents = await unet.run();
    const image = await decoder.run({ latents });
    backend.dispose(latents);
    return image;
  };
  const both = await timeRuns(async () => fetchResult(backend, await picture()), runs);
  const isGpu = backend.name.includes("webgpu");
  const streamed = isGpu && { streamedMs: tenths(await timeStream(backend, picture)) };
  const unetAndDecoderPeakRssMb = peakRssMb();
  const text = await timeStage(backend, join(folder, "textEncoder"), stages.textEncoder, runs, { precision });
  const report = {
    loadMs: unet.times.loadMs! + decoder.times.loadMs! + text.times.loadMs!,
    textEncoder: text.times,
    unet: unet.times,
    decoder: decoder.times,
    both,
    ...streamed,
    unetAndDecoderPeakRssMb,
    peakRssMb: peakRssMb(),
  };
  for (const stage of [unet, decoder, text]) await stage.dispose();
  return report;
}

/** What PyTorch's networks are made of, as files in a folder. */
async function writeTorchModel(folder: string, { unet, decoder, latents, tokens }: Configs): Promise<TorchModel> {
  const [unetConfig, decoderConfig] = [join(folder, "unet.json"), join(folder, "decoder.json")];
  await writeFile(unetConfig, JSON.stringify(unet));
  await writeFile(decoderConfig, JSON.stringify(decoder));
  return { unetConfig, decoderConfig, size: latents.slice(2).join("x"), tokens };
}

async function inferExported(folder: string, configs: Configs, { python, runs }: InferArguments) {
  await exportFromTorch(python, await writeTorchModel(folder, configs), folder);
  const stages = stagesOf(configs);
  const time = async (file: string, stage: Stage): Promise<StageTimes> => {
    const begin = performance.now();
    // As many threads as ours; onnxruntime's own choice takes half of a small machine's processors.
    disableTelemetry();
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
  const unetTimes = await time("unet.onnx", stages.unet);
  const decoder = await time("decoder.onnx", stages.decoder);
  return { unet: unetTimes, decoder, unetAndDecoderPeakRssMb: peakRssMb() };
}

/** Those that are a backend of ours with another arithmetic than float32. */
const OURS: Partial<Record<InferBackend, readonly [BackendName, "float16" | "int8"]>> = {
  [ONNX_INT8]: ["onnx", "int8"],
  [ONNX_WEBGPU_FP16]: ["onnx-webgpu", "float16"],
  [WEBGPU_FP16]: ["webgpu", "float16"],
};

/** Measures one backend in this process. */
async function infer(backend: InferBackend, args: InferArguments): Promise<InferReport> {
  const folder = await mkdtemp(join(tmpdir(), "sdxs-infer-"));
  try {
    const configs = await configsOf(args.model);
    const measure = async () => {
      if (backend === TORCH_EXPORT) return inferExported(folder, configs, args);
      if (backend === TORCH || backend === TORCH_CUDA) {
        const device = backend === TORCH ? "cpu" : "cuda";
        return inferByTorch(args.python, await writeTorchModel(folder, configs), args.runs, device);
      }
      const [name, kind] = OURS[backend] ?? ([backend as BackendName, "float32"] as const);
      return withBackend(name, (device) => inferOurs(device, folder, configs, args.runs, kind));
    };
    return { model: args.model, backend, ...(await measure()) };
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
