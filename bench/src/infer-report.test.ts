import { expect, it } from "vitest";
import { inferenceTable } from "./infer-report.js";

const report = (backend: "onnx" | "torch-export", ms: number) => ({
  model: "sdxs-512",
  backend,
  unet: { loadMs: 10 * ms, firstMs: 2 * ms, ms },
  decoder: { loadMs: 5 * ms, firstMs: ms, ms: ms / 2 },
  unetAndDecoderPeakRssMb: 2000,
  ...(backend === "onnx" && {
    both: { firstMs: ms, ms: 2 * ms },
    streamedMs: ms,
    textEncoder: { loadMs: 1, firstMs: 1, ms: 7 },
  }),
});

it("inferenceTable shows medians over the rounds, and ratios of what ran in the same round", () => {
  const rounds = [
    [report("onnx", 100), report("torch-export", 200)], // 0.5
    [report("onnx", 120), report("torch-export", 150)], // 0.8
    [report("onnx", 300), report("torch-export", 500)], // 0.6
  ];
  expect(inferenceTable(rounds.flat()).split("\n").slice(2)).toEqual([
    "| onnx | 1800 | 120 | 60.0 | 240 | 120 | 7.0 | 2000 |",
    // Peers' both are the sum.
    "| torch-export | 3000 | 200 | 100 | 300 | - | - | 2000 |",
    "| onnx / torch-export | 0.60 (0.50 to 0.80) | 0.60 (0.50 to 0.80) | 0.60 (0.50 to 0.80) | 0.80 (0.67 to 1.07) | - | - | 1.00 (1.00 to 1.00) |",
  ]);
});
