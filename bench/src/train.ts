import { readFile } from "node:fs/promises";
import {
  HostTensor,
  InvalidArgumentError,
  initialize,
  prefixed,
  select,
  type Backend,
  type ParameterSpec,
  type TensorMap,
} from "@sdxs/tensor";
import { writeSafetensorsFile } from "@sdxs/tensor/node";
import { parseUNetConfig, unetParameters, type UNetConfig } from "@sdxs/tiny-unet";
import { withBackend } from "./backends.js";
import { runCommand } from "./command.js";
import { denoisingTask, learningInputs, randomInputs } from "./denoising-task.js";
import { peakRssMb } from "./machine.js";
import { median } from "./statistics.js";
import { TRAIN_USAGE, parseTrainArguments, type TrainArguments } from "./train-arguments.js";

/** Of AdamW; its other options are PyTorch's defaults. Any rate takes the same time. */
const LEARNING_RATE = 1e-4;

interface TrainReport {
  readonly backend: string;
  /** Tracing and compiling the training program. */
  readonly compileMs: number;
  /** Median over the timed steps: forward, backward, AdamW. */
  readonly stepMs: number;
  /** Median of the prediction alone, as a program of its own over the same live parameters. */
  readonly forwardMs: number;
  /** Of the process up to the end of the last step. */
  readonly peakRssMb: number;
  readonly lossFirst: number;
  readonly lossLast: number;
}

async function train<D>(backend: Backend<D>, config: UNetConfig, args: TrainArguments): Promise<TrainReport> {
  const task = denoisingTask(config, args);
  const specs = unetParameters(config);
  const trainable = backend.trainable(initialize(specs, args.seed), {});
  const inputSpecs = learningInputs(config, task);
  const inputs = randomInputs(inputSpecs, args.seed);
  const learning = await backend.compile(task.learn(Object.keys(specs)), { params: specs, inputs: inputSpecs });

  const losses: number[] = [];
  const stepTimes: number[] = [];
  for (let step = 0; step < args.warmup + args.steps; step++) {
    const begin = performance.now();
    const { loss, ...gradients } = await learning.run(trainable.params, inputs);
    if (loss === undefined) throw new Error("unreachable: the program has a loss");
    losses.push((await backend.download(loss)).item());
    backend.dispose(loss);
    if (step === 0 && args.dump !== undefined) {
      const device = { ...prefixed(trainable.params, "param."), ...gradients };
      await writeDump(args.dump, backend, device, {
        ...prefixed(inputs, "input."),
        loss: HostTensor.scalar(losses[0]!),
      });
    }
    trainable.accumulate(select(gradients, "grad."));
    await trainable.step({ learningRate: LEARNING_RATE });
    if (step >= args.warmup) stepTimes.push(performance.now() - begin);
  }
  const peakMb = peakRssMb();
  // One live program at a time: the threads of another would spin beside this one's.
  await learning.dispose();

  const forwardMs = await timeForward(backend, task.predict, task.inputs, specs, trainable.params, inputs, args);
  trainable.dispose();
  return {
    backend: backend.name,
    compileMs: hundredths(learning.compileMs),
    stepMs: hundredths(median(stepTimes)),
    forwardMs: hundredths(forwardMs),
    peakRssMb: peakMb,
    lossFirst: losses[0]!,
    lossLast: losses.at(-1)!,
  };
}

async function timeForward<D>(
  backend: Backend<D>,
  predict: ReturnType<typeof denoisingTask>["predict"],
  inputSpecs: ReturnType<typeof denoisingTask>["inputs"],
  specs: Readonly<Record<string, ParameterSpec>>,
  params: TensorMap<D>,
  inputs: TensorMap<HostTensor>,
  args: TrainArguments,
): Promise<number> {
  const prediction = await backend.compile(predict, { params: specs, inputs: inputSpecs });
  const given = Object.fromEntries(Object.keys(inputSpecs).map((name) => [name, inputs[name]!]));
  const times: number[] = [];
  for (let step = 0; step < args.warmup + args.steps; step++) {
    const begin = performance.now();
    const { sample } = await prediction.run(params, given);
    if (step >= args.warmup) times.push(performance.now() - begin);
    if (sample !== undefined) backend.dispose(sample);
  }
  await prediction.dispose();
  return median(times);
}

/** "param.NAME" before the step, "input.NAME", "loss" and "grad.NAME". */
async function writeDump<D>(
  path: string,
  backend: Backend<D>,
  device: TensorMap<D>,
  host: TensorMap<HostTensor>,
): Promise<void> {
  const downloaded: Record<string, HostTensor> = {};
  for (const [name, tensor] of Object.entries(device)) downloaded[name] = await backend.download(tensor);
  await writeSafetensorsFile(path, { ...downloaded, ...host });
}

async function readConfig(path: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(path, "utf8"));
  } catch (cause) {
    throw new InvalidArgumentError(
      `bench:train: --config must be a diffusers config.json; ${path} cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`,
      { cause },
    );
  }
}

const hundredths = (value: number): number => Math.round(value * 100) / 100;

await runCommand(TRAIN_USAGE, async (given) => {
  const args = parseTrainArguments(given);
  const config = parseUNetConfig(await readConfig(args.config));
  const report = await withBackend(args.backend, (backend) => train(backend, config, args));
  console.log(JSON.stringify(report));
});
