import type { StepTimes } from "./processes.js";
import { markdownTable } from "./markdown.js";
import { median } from "./statistics.js";

/** One backend against PyTorch on one case: the reports of all rounds, in their order. */
export interface Comparison {
  readonly title: string;
  readonly backend: string;
  readonly ours: readonly StepTimes[];
  readonly torch: readonly StepTimes[];
  /** Worst relative error of our gradients, where it was checked. */
  readonly gradientError: number | undefined;
}

/** What one case needs at least, and the machine's measured rates. */
export interface Floor {
  readonly title: string;
  readonly parameters: number;
  readonly forwardMultiplyAdds: number;
  readonly stepMultiplyAdds: number;
  readonly stepBytes: number;
  /** Median step per framework, milliseconds. */
  readonly stepMs: Readonly<Record<string, number>>;
}

export interface MachinePeaks {
  readonly gflops: number;
  readonly gigabytesPerSecond: number;
}

/** Medians over the rounds as "ours / PyTorch = ratio". */
export function comparisonTable(comparisons: readonly Comparison[]): string {
  const rows = comparisons.map(({ title, backend, ours, torch, gradientError }) => {
    const cell = (field: keyof StepTimes): string => {
      const [a, b] = [median(ours.map((report) => report[field])), median(torch.map((report) => report[field]))];
      return `${rounded(a)} / ${rounded(b)} = ${(a / b).toFixed(2)}`;
    };
    const ratios = ours.map((report, round) => report.stepMs / (torch[round]?.stepMs ?? NaN));
    const spread = `${Math.min(...ratios).toFixed(2)} to ${Math.max(...ratios).toFixed(2)}`;
    const error = gradientError === undefined ? "-" : gradientError.toExponential(1);
    return [title, backend, cell("stepMs"), spread, cell("forwardMs"), cell("peakRssMb"), error];
  });
  const header = ["case", "backend", "whole step, ms", "ratio by round", "forward, ms", "peak memory, MB", "gradients"];
  return markdownTable(header, rows);
}

/** The arithmetic of a step, and how near the machine's measured peak each framework comes to it. */
export function floorTable(floors: readonly Floor[], peaks: MachinePeaks): string {
  const rows = floors.map((floor) => {
    const gflop = (2 * floor.stepMultiplyAdds) / 1e9;
    const arithmeticMs = (gflop / peaks.gflops) * 1000;
    const memoryMs = (floor.stepBytes / 1e9 / peaks.gigabytesPerSecond) * 1000;
    const reached = Object.entries(floor.stepMs).map(
      ([name, ms]) => `${name} ${rounded((gflop / ms) * 1000)} (${Math.round((100 * arithmeticMs) / ms)}%)`,
    );
    return [
      floor.title,
      (floor.parameters / 1e6).toFixed(1),
      `${rounded(floor.forwardMultiplyAdds / 1e9)} / ${rounded(floor.stepMultiplyAdds / 1e9)}`,
      rounded(floor.stepBytes / 1e9),
      `${rounded(arithmeticMs)} / ${rounded(memoryMs)}`,
      reached.join(", "),
    ];
  });
  const header = [
    "case",
    "parameters, M",
    "G multiply-adds, forward / step",
    "GB per step",
    "floor by arithmetic / by memory, ms",
    "GFLOP/s reached (of the peak)",
  ];
  return markdownTable(header, rows);
}

/** Three digits are as many as such a measurement carries. */
function rounded(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(value >= 10 ? 3 : 2);
}
