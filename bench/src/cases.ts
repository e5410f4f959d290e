import { fileURLToPath } from "node:url";
import { InvalidArgumentError } from "@sdxs/tensor";
import type { BackendName } from "./backends.js";

export interface BenchmarkCase {
  readonly name: string;
  /** For tables. */
  readonly title: string;
  /** Path of the config.json. */
  readonly config: string;
  readonly batch: number;
  readonly size: `${number}x${number}`;
  /** Timed steps per process. */
  readonly steps: number;
  /** Which of our backends run it, each beside PyTorch. */
  readonly backends: readonly BackendName[];
}

const config = (name: string): string => fileURLToPath(new URL(`../configs/${name}.json`, import.meta.url));

/** Steps are chosen so that each process times between ten and thirty seconds. */
export const CASES: readonly BenchmarkCase[] = [
  {
    name: "unet-13m",
    title: "U-Net 12.9 M, channels 64/128/256, batch 16, 4x16x16",
    config: config("unet-13m"),
    batch: 16,
    size: "16x16",
    steps: 30,
    backends: ["onnx", "tfjs-wasm"],
  },
  {
    name: "unet-50m",
    title: "U-Net 50 M, channels 128/256/512, batch 8, 4x32x32",
    config: config("unet-50m"),
    batch: 8,
    size: "32x32",
    steps: 8,
    backends: ["onnx"],
  },
  {
    name: "unet-sd21-shape",
    title: "U-Net 44 M of SD 2.1's shape (four levels of cross attention, mid block), batch 4, 4x32x32",
    config: config("unet-sd21-shape"),
    batch: 4,
    size: "32x32",
    steps: 12,
    backends: ["onnx"],
  },
  {
    name: "unet-sdxs-512",
    title: "SDXS-512's U-Net, 319 M, batch 1, 4x64x64",
    config: config("unet-sdxs-512"),
    batch: 1,
    size: "64x64",
    steps: 3,
    backends: ["onnx"],
  },
];

/** The cases of these names, in the table's order; all of them where no name is given. */
export function selectCases(names: readonly string[]): readonly BenchmarkCase[] {
  const unknown = names.find((name) => !CASES.some((known) => known.name === name));
  if (unknown !== undefined) {
    const known = CASES.map(({ name }) => name).join(", ");
    throw new InvalidArgumentError(`bench:peers: --cases takes ${known}, separated by commas; got "${unknown}".`);
  }
  return names.length === 0 ? CASES : CASES.filter(({ name }) => names.includes(name));
}
