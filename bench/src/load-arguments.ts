import { InvalidArgumentError } from "@sdxs/tensor";
import { readOptions } from "./command.js";

/** Configurations of published U-Nets, and height x width of the latents that they were trained for. */
export const FULL_SIZE_MODELS = {
  "sdxs-512": { config: "bench/configs/unet-sdxs-512.json", size: "64x64" },
  sd21: { config: "bench/configs/unet-sd21.json", size: "64x64" },
  sdxl: { config: "bench/configs/unet-sdxl.json", size: "128x128" },
} as const;

export interface LoadArguments {
  readonly model: keyof typeof FULL_SIZE_MODELS;
  /** How onnxruntime gets the weights: as inputs of each run, or as constants. */
  readonly weights: "params" | "frozen";
  /** Of the latents. */
  readonly height: number;
  readonly width: number;
}

export const LOAD_USAGE = `Usage: npm run bench:load -- --model NAME [options]
  --model NAME      ${Object.keys(FULL_SIZE_MODELS).join(", ")}
  --weights HOW     params: read where they were loaded, the default; frozen: constants of the program
  --size HxW        height x width of the latents; default 64x64, 128x128 for sdxl`;

/** @throws InvalidArgumentError that names the argument, what it must be and what came. */
export function parseLoadArguments(args: readonly string[]): LoadArguments {
  const { model, weights, size: given } = read(args);
  if (!isModel(model)) {
    throw new InvalidArgumentError(
      `bench:load: --model must be one of ${Object.keys(FULL_SIZE_MODELS).join(", ")}, got "${model}".`,
    );
  }
  if (weights !== "params" && weights !== "frozen") {
    throw new InvalidArgumentError(`bench:load: --weights must be params or frozen, got "${weights}".`);
  }
  const size = given ?? FULL_SIZE_MODELS[model].size;
  const [, height, width] = /^([1-9]\d*)x([1-9]\d*)$/.exec(size) ?? [];
  if (height === undefined || width === undefined) {
    throw new InvalidArgumentError(`bench:load: --size must be HEIGHTxWIDTH of the latents, as 64x64, got "${size}".`);
  }
  return { model, weights, height: Number(height), width: Number(width) };
}

function isModel(name: string): name is keyof typeof FULL_SIZE_MODELS {
  return Object.hasOwn(FULL_SIZE_MODELS, name);
}

const read = (args: readonly string[]) =>
  readOptions("bench:load", args, {
    model: { type: "string", default: "" },
    weights: { type: "string", default: "params" },
    size: { type: "string" },
  });
