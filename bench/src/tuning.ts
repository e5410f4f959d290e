import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import type { BenchmarkCase } from "./cases.js";
import { processor } from "./machine.js";
import { runTorch, type TorchSetting } from "./processes.js";

/** What was tried for one case on one processor, and the fastest of it. */
interface Tuned {
  readonly fastest: TorchSetting;
  /** Median step in milliseconds per setting, the least of its trials. */
  readonly tried: Readonly<Record<string, number>>;
}

/** By processor, then by case. */
type TuningFile = Record<string, Record<string, Tuned>>;

const tuningPath = fileURLToPath(new URL("../peers/tuning.json", import.meta.url));

/** Timed steps of one trial; their median counts, so one disturbed step does not. */
const TRIAL_STEPS = 3;
/** Each setting is tried so often, in turn with the others, and its best trial counts: other work disturbs minutes. */
const TRIALS = 2;
/** One step suffices: memory is allocated and oneDNN's kernels are made. */
const TRIAL_WARMUP = ["--warmup", "1"];

/** Kernel sets of OpenBLAS for x86 with AVX2 or AVX-512. The first setting is its own choice. */
const OPENBLAS_CORES: readonly TorchSetting[] = [
  { environment: {}, options: [] },
  ...["ZEN", "HASWELL", "SKYLAKEX", "COOPERLAKE"].map((core) => ({
    environment: { OPENBLAS_CORETYPE: core },
    options: [],
  })),
];

/** Tried one by one on top of the fastest kernel set. */
const VARIATIONS: readonly TorchSetting[] = [
  { environment: { ATEN_CPU_CAPABILITY: "avx512" }, options: [] },
  { environment: {}, options: ["--onednn", "off"] },
  { environment: {}, options: ["--layout", "channels-last"] },
  { environment: {}, options: ["--optimizer", "foreach"] },
];

export function settingName({ environment, options }: TorchSetting): string {
  const words = [...Object.entries(environment).map(([name, value]) => `${name}=${value}`), ...options];
  return words.join(" ") || "as installed";
}

/** The fastest setting measured on this processor: from the record, or measured now and recorded. */
export async function tunedTorch(
  python: string,
  benchmark: BenchmarkCase,
  again: boolean,
  log: (line: string) => void,
): Promise<TorchSetting> {
  const file = await readTuning();
  const machine = processor();
  const known = file[machine]?.[benchmark.name];
  if (known && !again) return known.fastest;
  log(`tuning PyTorch for ${benchmark.name}`);
  const tuned = await tune(python, benchmark, log);
  file[machine] = { ...file[machine], [benchmark.name]: tuned };
  await writeFile(tuningPath, `${JSON.stringify(file, undefined, 2)}\n`);
  return tuned.fastest;
}

async function tune(python: string, benchmark: BenchmarkCase, log: (line: string) => void): Promise<Tuned> {
  const tried: Record<string, number> = {};
  let failure: unknown;
  const attempt = async (setting: TorchSetting): Promise<void> => {
    const name = settingName(setting);
    try {
      const trial = { ...setting, options: [...setting.options, ...TRIAL_WARMUP] };
      const { stepMs } = await runTorch(python, benchmark, TRIAL_STEPS, trial);
      tried[name] = Math.min(tried[name] ?? Infinity, stepMs);
      log(`  ${stepMs.toFixed(0)} ms  ${name}`);
    } catch (error) {
      failure = error; // kernels that this processor lacks end the process
      log(`  failed  ${name}`);
    }
  };
  const fastestOf = async (settings: readonly TorchSetting[]): Promise<TorchSetting | undefined> => {
    for (let trial = 0; trial < TRIALS; trial++) for (const setting of settings) await attempt(setting);
    const times = settings.map((setting) => tried[settingName(setting)] ?? Infinity);
    const least = Math.min(...times);
    return Number.isFinite(least) ? settings[times.indexOf(least)] : undefined;
  };
  const kernels = await fastestOf(OPENBLAS_CORES);
  if (!kernels) throw failure;
  const variations = VARIATIONS.map(({ environment, options }) => ({
    environment: { ...kernels.environment, ...environment },
    options,
  }));
  return { fastest: (await fastestOf([kernels, ...variations])) ?? kernels, tried };
}

async function readTuning(): Promise<TuningFile> {
  try {
    return JSON.parse(await readFile(tuningPath, "utf8")) as TuningFile;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return {};
    throw error;
  }
}
