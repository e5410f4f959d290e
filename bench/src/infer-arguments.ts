import { InvalidArgumentError } from "@sdxs/tensor";
import { BACKEND_NAMES, isBackendName, type BackendName } from "./backends.js";
import { wholeNumber } from "./train-arguments.js";
import { readOptions } from "./command.js";

/** onnxruntime-node running the graphs that torch.onnx exports, in place of one of our backends. */
export const TORCH_EXPORT = "torch-export";

/** Our onnx backend with U-Net and decoder in 8 bits, calibrated before they are loaded: peak memory counts that as well. */
export const ONNX_INT8 = "onnx-int8";

/** PyTorch itself, with the operations that diffusers runs. */
export const TORCH = "torch";

/** PyTorch in float16 on an NVIDIA GPU, its kernels in a CUDA graph. */
export const TORCH_CUDA = "torch-cuda";

/** onnxruntime's WebGPU provider in float16. */
export const ONNX_WEBGPU_FP16 = "onnx-webgpu-fp16";

/** Our own kernels on WebGPU in float16. */
export const WEBGPU_FP16 = "webgpu-fp16";

const OTHERS = [TORCH_EXPORT, TORCH, TORCH_CUDA, ONNX_INT8, ONNX_WEBGPU_FP16, WEBGPU_FP16] as const;
export type InferBackend = BackendName | (typeof OTHERS)[number];

/** sdxs-512: SDXS-512 at full size. emoji: the student that the emoji recipe ships. */
export const INFER_MODELS = ["sdxs-512", "emoji"] as const;
export type InferModel = (typeof INFER_MODELS)[number];

export interface InferArguments {
  readonly model: InferModel;
  /** Measured in turn, each in a process of its own where there are several. */
  readonly backends: readonly InferBackend[];
  readonly rounds: number;
  /** Timed runs of each stage, after one that is not. */
  readonly runs: number;
  /** An interpreter that has torch, for `torch-export` and `torch`. */
  readonly python: string;
}

export const INFER_USAGE = `Usage: npm run bench:infer -- --model MODEL [options]
  --model MODEL     ${INFER_MODELS.join(" or ")}
  --backend A,B     of ${[...BACKEND_NAMES, ...OTHERS].join(", ")}; default onnx
  --rounds N        how often the backends run, one after the other, default 1
  --runs N          timed runs of each stage, default 5
  --python FILE     an interpreter that has torch, default /usr/bin/python3`;

/** @throws InvalidArgumentError that names the argument, what it must be and what came. */
export function parseInferArguments(args: readonly string[]): InferArguments {
  const { model, backend, rounds, runs, python } = read(args);
  const known = INFER_MODELS.find((name) => name === model);
  if (known === undefined) {
    throw new InvalidArgumentError(`bench:infer: --model must be ${INFER_MODELS.join(" or ")}, got "${model}".`);
  }
  return {
    model: known,
    backends: backend.split(",").map(inferBackend),
    rounds: wholeNumber("--rounds", rounds, 1),
    runs: wholeNumber("--runs", runs, 1),
    python,
  };
}

function inferBackend(name: string): InferBackend {
  const other = OTHERS.find((known) => known === name);
  if (other !== undefined) return other;
  if (isBackendName(name)) return name;
  throw new InvalidArgumentError(
    `bench:infer: --backend must be of ${[...BACKEND_NAMES, ...OTHERS].join(", ")}, got "${name}".`,
  );
}

const read = (args: readonly string[]) =>
  readOptions("bench:infer", args, {
    model: { type: "string", default: "" },
    backend: { type: "string", default: "onnx" },
    rounds: { type: "string", default: "1" },
    runs: { type: "string", default: "5" },
    python: { type: "string", default: "/usr/bin/python3" },
  });
