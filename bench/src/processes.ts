import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { SdxsError } from "@sdxs/tensor";
import type { BackendName } from "./backends.js";
import type { BenchmarkCase } from "./cases.js";
import type { InferReport } from "./infer-report.js";

const run = promisify(execFile);

/** What both `train.js` and `torch_train.py` report. */
export interface StepTimes {
  readonly stepMs: number;
  readonly forwardMs: number;
  readonly peakRssMb: number;
}

/** How PyTorch runs: variables that its libraries read while they load, and options of `torch_train.py`. */
export interface TorchSetting {
  readonly environment: Readonly<Record<string, string>>;
  readonly options: readonly string[];
}

/** What `torch_train.py --check` reports: largest difference over largest value, per tensor. */
export interface GradientCheck {
  readonly worstRelativeError: number;
  readonly medianRelativeError: number;
}

const trainScript = fileURLToPath(new URL("./train.js", import.meta.url));
const inferScript = fileURLToPath(new URL("./infer.js", import.meta.url));
const exportScript = fileURLToPath(new URL("../peers/torch_export.py", import.meta.url));
const torchScript = fileURLToPath(new URL("../peers/torch_train.py", import.meta.url));

/** Runs our benchmark in a process of its own. */
export async function runOurs(
  { config, batch, size }: BenchmarkCase,
  backend: BackendName,
  steps: number,
  dump?: string,
): Promise<StepTimes> {
  const options = ["--config", config, "--batch", `${batch}`, "--size", size, "--steps", `${steps}`];
  const dumping = dump === undefined ? [] : ["--dump", dump];
  return lastLine(process.execPath, [trainScript, ...options, "--backend", backend, ...dumping], {});
}

/** Runs PyTorch's in a process of its own. */
export async function runTorch(
  python: string,
  { config, batch, size }: BenchmarkCase,
  steps: number,
  setting: TorchSetting,
): Promise<StepTimes> {
  const options = ["--config", config, "--batch", `${batch}`, "--size", size, "--steps", `${steps}`];
  return lastLine(python, [torchScript, ...options, ...setting.options], setting.environment);
}

/** Runs `bench:infer` for one backend in a process of its own. */
export async function inferApart(args: readonly string[]): Promise<InferReport> {
  return lastLine(process.execPath, [inferScript, ...args], {});
}

/** Compares the gradients of a dump of ours with PyTorch's in float32. */
export async function checkGradients(python: string, { config }: BenchmarkCase, dump: string): Promise<GradientCheck> {
  return lastLine(python, [torchScript, "--config", config, "--check", dump], {});
}

/** Files of configurations, and sizes, that PyTorch's networks are made for. */
export interface TorchModel {
  readonly unetConfig: string;
  readonly decoderConfig: string;
  /** Height x width of the latents. */
  readonly size: string;
  /** Of the text. */
  readonly tokens: number;
}

const torchOptions = ({ unetConfig, decoderConfig, size, tokens }: TorchModel): string[] => [
  ...["--config", unetConfig, "--decoder-config", decoderConfig],
  ...["--size", size, "--tokens", `${tokens}`],
];

/** Writes the graphs that torch.onnx exports of a U-Net and of a tiny decoder to `folder`. */
export async function exportFromTorch(python: string, model: TorchModel, folder: string): Promise<void> {
  await standardOutput(python, [exportScript, ...torchOptions(model), folder], {});
}

/** Times the same networks in PyTorch. */
export async function inferByTorch(
  python: string,
  model: TorchModel,
  runs: number,
  device: "cpu" | "cuda",
): Promise<Pick<InferReport, "unet" | "decoder" | "unetAndDecoderPeakRssMb">> {
  // Of the kernels that were tried (bench/peers/tuning.json), those that made training fastest.
  const environment = { OPENBLAS_CORETYPE: "SKYLAKEX", OMP_NUM_THREADS: "2" };
  return lastLine(
    python,
    [exportScript, ...torchOptions(model), "--time", `${runs}`, ...(device === "cuda" ? ["--cuda"] : [])],
    environment,
  );
}

async function lastLine<R>(...call: Parameters<typeof standardOutput>): Promise<R> {
  return JSON.parse((await standardOutput(...call)).trim().split("\n").at(-1) ?? "") as R;
}

async function standardOutput(
  command: string,
  args: readonly string[],
  environment: Readonly<Record<string, string>>,
): Promise<string> {
  try {
    const { stdout } = await run(command, args, {
      env: { ...process.env, PYTHONDONTWRITEBYTECODE: "1", ...environment },
    });
    return stdout;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    const advice = reason.includes("No module named")
      ? "\nPyTorch is missing. On Debian: apt-get install python3-torch python3-numpy libopenblas0-openmp; elsewhere pass --python."
      : "";
    throw new SdxsError("BACKEND_FAILURE", `${command} ${args.join(" ")} failed: ${reason}${advice}`, {
      cause,
    });
  }
}
