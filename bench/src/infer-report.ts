import type { InferBackend } from "./infer-arguments.js";
import { markdownTable } from "./markdown.js";
import { median } from "./statistics.js";

export interface StageTimes {
  /** From the files to the compiled program; PyTorch loads none. */
  readonly loadMs?: number;
  /** The first run, which touches the memory of all activations for the first time. */
  readonly firstMs: number;
  /** Median of the runs after it. */
  readonly ms: number;
}

/** One backend's line of JSON. */
export interface InferReport {
  readonly model: string;
  readonly backend: InferBackend;
  readonly unet: StageTimes;
  readonly decoder: StageTimes;
  /** From noise to the picture: the decoder takes the U-Net's result where it lies. Absent for peers. */
  readonly both?: StageTimes;
  /** Milliseconds of each of several pictures that are asked for without waiting for the one before. On GPUs. */
  readonly streamedMs?: number;
  /** Absent where the graphs were exported: theirs are U-Net and decoder. */
  readonly textEncoder?: StageTimes;
  readonly unetAndDecoderPeakRssMb: number;
}

const columns: Readonly<Record<string, (report: InferReport) => number>> = {
  "ready, ms": ({ unet, decoder }) => (unet.loadMs ?? NaN) + (decoder.loadMs ?? NaN),
  "U-Net, ms": ({ unet }) => unet.ms,
  "decoder, ms": ({ decoder }) => decoder.ms,
  "both, ms": ({ unet, decoder, both }) => both?.ms ?? unet.ms + decoder.ms,
  "both in a stream, ms": ({ streamedMs }) => streamedMs ?? NaN,
  "text encoder, ms": ({ textEncoder }) => textEncoder?.ms ?? NaN,
  "peak of U-Net and decoder, MB": ({ unetAndDecoderPeakRssMb }) => unetAndDecoderPeakRssMb,
};

/**
 * Medians over the rounds by backend, and below them the first backend's ratios to each other one: the median of the
 * rounds' ratios, and the smallest and largest.
 */
export function inferenceTable(reports: readonly InferReport[]): string {
  const backends = [...new Set(reports.map(({ backend }) => backend))];
  const of = (backend: InferBackend, column: (report: InferReport) => number): number[] =>
    reports.filter((report) => report.backend === backend).map(column);
  const row = (label: string, cell: (column: (report: InferReport) => number) => string): string[] => [
    label,
    ...Object.values(columns).map(cell),
  ];
  const [first, ...others] = backends;
  const medians = backends.map((backend) => row(backend, (column) => shown(median(of(backend, column)))));
  const ratios = others.map((other) =>
    row(`${first} / ${other}`, (column) => {
      const theirs = of(other, column);
      const byRound = of(first!, column).map((value, round) => value / theirs[round]!);
      const spread = `${Math.min(...byRound).toFixed(2)} to ${Math.max(...byRound).toFixed(2)}`;
      return Number.isNaN(median(byRound)) ? "-" : `${median(byRound).toFixed(2)} (${spread})`;
    }),
  );
  return markdownTable(["backend", ...Object.keys(columns)], [...medians, ...ratios]);
}

const shown = (value: number): string => (Number.isNaN(value) ? "-" : value.toFixed(value < 100 ? 1 : 0));
