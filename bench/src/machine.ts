import { readFileSync } from "node:fs";
import { availableParallelism, cpus, totalmem } from "node:os";

/** The processor, in words that tell its generation apart where the system says it. */
export function processor(): string {
  const model = cpus()[0]?.model.trim() ?? "unknown processor";
  const generation = linuxGeneration();
  return `${model}${generation === undefined ? "" : ` (${generation})`}, ${availableParallelism()} cores`;
}

/** One line above every table of figures. */
export function machineLine(): string {
  const memory = Math.round(totalmem() / 2 ** 30);
  const date = new Date().toISOString().slice(0, 10);
  return `${processor()}, ${memory} GB, Node ${process.version.slice(1)}, ${process.platform} ${process.arch}, ${date}`;
}

/** Virtual machines often hide the model's name; family and model number stay. */
function linuxGeneration(): string | undefined {
  try {
    const info = readFileSync("/proc/cpuinfo", "utf8");
    const field = (name: string): string | undefined => new RegExp(`^${name}\\s*: (.*)$`, "m").exec(info)?.[1];
    const [family, model] = [field("cpu family"), field("model")];
    const widest = /\bavx512f\b/.test(field("flags") ?? "") ? ", AVX-512" : "";
    return family === undefined || model === undefined ? undefined : `family ${family} model ${model}${widest}`;
  } catch {
    return undefined;
  }
}

/** The largest resident memory of the process so far. */
export const peakRssMb = (): number => Math.round(process.resourceUsage().maxRSS / 1024); // maxRSS is in kB
