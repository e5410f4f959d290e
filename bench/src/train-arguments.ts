import { InvalidArgumentError } from "@sdxs/tensor";
import { BACKEND_NAMES, isBackendName, type BackendName } from "./backends.js";
import { readOptions } from "./command.js";

export interface TrainArguments {
  /** Path of a diffusers UNet2DConditionModel config.json. */
  readonly config: string;
  readonly batch: number;
  /** Of the latents. */
  readonly height: number;
  readonly width: number;
  readonly backend: BackendName;
  /** Steps that are timed. */
  readonly steps: number;
  /** Steps before them. */
  readonly warmup: number;
  readonly seed: number;
  /** Compute each block again for the gradient. */
  readonly checkpointing: boolean;
  /** Where to write the first step's tensors. */
  readonly dump: string | undefined;
}

export const TRAIN_USAGE = `Usage: npm run bench:train -- --config CONFIG.json [options]
  --config FILE     a diffusers UNet2DConditionModel config.json
  --batch N         default 1
  --size HxW        height x width of the latents, default 64x64
  --backend NAME    ${BACKEND_NAMES.join(", ")}; default onnx
  --steps N         steps that are timed, default 10
  --warmup N        steps before them, default 2
  --seed N          default 0
  --checkpointing   compute each block again for the gradient instead of keeping it
  --dump FILE       write parameters, inputs, loss and gradients of the first step as safetensors`;

/** @throws InvalidArgumentError that names the argument, what it must be and what came. */
export function parseTrainArguments(args: readonly string[]): TrainArguments {
  const { config, batch, size, backend, steps, warmup, seed, checkpointing, dump } = read(args);
  if (config === undefined) throw new InvalidArgumentError("bench:train: --config CONFIG.json is missing.");
  if (!isBackendName(backend)) {
    throw new InvalidArgumentError(
      `bench:train: --backend must be one of ${BACKEND_NAMES.join(", ")}, got "${backend}".`,
    );
  }
  const sides = /^(\d+)x(\d+)$/.exec(size);
  if (!sides) {
    throw new InvalidArgumentError(`bench:train: --size must be HEIGHTxWIDTH of the latents, as 64x64, got "${size}".`);
  }
  return {
    config,
    batch: wholeNumber("--batch", batch, 1),
    height: wholeNumber("--size", sides[1]!, 1),
    width: wholeNumber("--size", sides[2]!, 1),
    backend,
    steps: wholeNumber("--steps", steps, 1),
    warmup: wholeNumber("--warmup", warmup, 0),
    seed: wholeNumber("--seed", seed, 0),
    checkpointing,
    dump,
  };
}

const read = (args: readonly string[]) =>
  readOptions("bench:train", args, {
    config: { type: "string" },
    batch: { type: "string", default: "1" },
    size: { type: "string", default: "64x64" },
    backend: { type: "string", default: "onnx" },
    steps: { type: "string", default: "10" },
    warmup: { type: "string", default: "2" },
    seed: { type: "string", default: "0" },
    checkpointing: { type: "boolean", default: false },
    dump: { type: "string" },
  });

export function wholeNumber(name: string, text: string, least: number): number {
  const value = Number(text);
  if (text === "" || !Number.isSafeInteger(value) || value < least) {
    throw new InvalidArgumentError(`bench: ${name} must be a whole number of at least ${least}, got "${text}".`);
  }
  return value;
}
