import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { InvalidArgumentError, SdxsError, countArithmetic, sizeOf } from "@sdxs/tensor";
import { parseUNetConfig, unetParameters } from "@sdxs/tiny-unet";
import { adamWBytes } from "./adamw-bytes.js";
import { withBackend, type BackendName } from "./backends.js";
import { CASES, selectCases, type BenchmarkCase } from "./cases.js";
import { denoisingTask, learningInputs } from "./denoising-task.js";
import { machineLine } from "./machine.js";
import { copyPeak, matrixProductPeak } from "./probes.js";
import { checkGradients, runOurs, runTorch, type StepTimes, type TorchSetting } from "./processes.js";
import { withFigures } from "./markdown.js";
import { comparisonTable, floorTable, type Comparison, type Floor } from "./report.js";
import { median } from "./statistics.js";
import { wholeNumber } from "./train-arguments.js";
import { settingName, tunedTorch } from "./tuning.js";

const USAGE = `Usage: npm run bench:peers -- [options]
  --cases A,B       of ${CASES.map(({ name }) => name).join(", ")}; default all
  --rounds N        how often each pair runs, ours and PyTorch's in turn, default 3
  --steps N         timed steps per process instead of each case's own
  --python FILE     an interpreter that has torch and numpy, default /usr/bin/python3
  --tune            measure PyTorch's settings again
  --check           compare our gradients with PyTorch's, too
  --write           put the tables into bench/README.md`;

/** tfjs takes seconds per step where the others take tenths: chosen to keep a round short. */
const TFJS_STEPS = 2;

const readmePath = fileURLToPath(new URL("../README.md", import.meta.url));
const log = (line: string): void => console.error(line);

interface Options {
  readonly cases: readonly BenchmarkCase[];
  readonly rounds: number;
  readonly steps: number | undefined;
  readonly python: string;
  readonly tune: boolean;
  readonly check: boolean;
  readonly write: boolean;
}

function parseOptions(args: readonly string[]): Options {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        cases: { type: "string" },
        rounds: { type: "string", default: "3" },
        steps: { type: "string" },
        python: { type: "string", default: "/usr/bin/python3" },
        tune: { type: "boolean", default: false },
        check: { type: "boolean", default: false },
        write: { type: "boolean", default: false },
      },
    });
    return {
      ...values,
      cases: selectCases(values.cases?.split(",") ?? []),
      rounds: wholeNumber("--rounds", values.rounds, 1),
      steps: values.steps === undefined ? undefined : wholeNumber("--steps", values.steps, 1),
    };
  } catch (cause) {
    if (cause instanceof SdxsError) throw cause;
    throw new InvalidArgumentError(`bench:peers: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
}

async function compare(
  benchmark: BenchmarkCase,
  backend: BackendName,
  setting: TorchSetting,
  options: Options,
): Promise<Comparison> {
  const torchSteps = options.steps ?? benchmark.steps;
  const ourSteps = backend.startsWith("tfjs") ? Math.min(TFJS_STEPS, torchSteps) : torchSteps;
  const ours: StepTimes[] = [];
  const torch: StepTimes[] = [];
  for (let round = 1; round <= options.rounds; round++) {
    ours.push(await runOurs(benchmark, backend, ourSteps));
    torch.push(await runTorch(options.python, benchmark, torchSteps, setting));
    const [our, its] = [ours.at(-1)?.stepMs ?? NaN, torch.at(-1)?.stepMs ?? NaN];
    log(`${benchmark.name} round ${round}: ${backend} ${our} ms, PyTorch (${settingName(setting)}) ${its} ms`);
  }
  const gradientError = options.check ? await gradientErrorOf(benchmark, backend, options.python) : undefined;
  return { title: benchmark.title, backend, ours, torch, gradientError };
}

async function gradientErrorOf(benchmark: BenchmarkCase, backend: BackendName, python: string): Promise<number> {
  const folder = await mkdtemp(join(tmpdir(), "sdxs-bench-"));
  try {
    const dump = join(folder, "first-step.safetensors");
    await runOurs(benchmark, backend, 1, dump);
    return (await checkGradients(python, benchmark, dump)).worstRelativeError;
  } finally {
    await rm(folder, { recursive: true });
  }
}

async function floorOf(benchmark: BenchmarkCase, comparisons: readonly Comparison[]): Promise<Floor> {
  const config = parseUNetConfig(JSON.parse(await readFile(benchmark.config, "utf8")));
  const [height = 1, width = 1] = benchmark.size.split("x").map(Number);
  const task = denoisingTask(config, { batch: benchmark.batch, height, width });
  const specs = unetParameters(config);
  const step = countArithmetic(task.learn(Object.keys(specs)), specs, learningInputs(config, task));
  const parameters = Object.values(specs).reduce((total, { shape }) => total + sizeOf(shape), 0);
  const own = comparisons.filter(({ title }) => title === benchmark.title);
  const stepMedian = (reports: readonly StepTimes[]): number => median(reports.map(({ stepMs }) => stepMs));
  return {
    title: benchmark.title,
    parameters,
    forwardMultiplyAdds: countArithmetic(task.predict, specs, task.inputs).multiplyAdds,
    stepMultiplyAdds: step.multiplyAdds,
    stepBytes: step.bytes + adamWBytes(parameters),
    stepMs: {
      ...Object.fromEntries(own.map(({ backend, ours }) => [backend, stepMedian(ours)])),
      PyTorch: stepMedian(own.flatMap(({ torch }) => torch)),
    },
  };
}

async function main(): Promise<void> {
  const options = parseOptions(process.argv.slice(2));
  const peaks = { gflops: await withBackend("onnx", matrixProductPeak), gigabytesPerSecond: copyPeak() };
  const comparisons: Comparison[] = [];
  for (const benchmark of options.cases) {
    const setting = await tunedTorch(options.python, benchmark, options.tune, log);
    for (const backend of benchmark.backends) comparisons.push(await compare(benchmark, backend, setting, options));
  }
  const floors: Floor[] = [];
  for (const benchmark of options.cases) floors.push(await floorOf(benchmark, comparisons));

  const figures = [
    `Measured on: ${machineLine()}. Rounds: ${options.rounds}; medians, ours / PyTorch 1.13 = ratio.`,
    comparisonTable(comparisons),
    `Peaks measured: ${peaks.gflops.toFixed(0)} GFLOP/s (matrix product), ` +
      `${peaks.gigabytesPerSecond.toFixed(0)} GB/s (copy on one core).`,
    floorTable(floors, peaks),
  ].join("\n\n");
  console.log(figures);
  if (options.write) await writeFile(readmePath, withFigures(await readFile(readmePath, "utf8"), figures));
}

try {
  await main();
} catch (error) {
  if (!(error instanceof SdxsError)) throw error;
  console.error(error.code === "INVALID_ARGUMENT" ? `${error.message}\n\n${USAGE}` : error.message);
  process.exitCode = 2;
}
