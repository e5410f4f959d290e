import { describe, expect, it } from "vitest";
import { withFigures } from "./markdown.js";
import { comparisonTable, floorTable } from "./report.js";

const report = (stepMs: number) => ({ stepMs, forwardMs: stepMs / 4, peakRssMb: 600 });

describe("comparisonTable", () => {
  it("divides the medians and shows how the ratio varied by round", () => {
    const table = comparisonTable([
      {
        title: "case",
        backend: "onnx",
        ours: [report(100), report(120), report(110)],
        torch: [report(200), report(200), report(220)],
        gradientError: 3e-6,
      },
    ]);
    expect(table.split("\n").at(-1)).toBe(
      "| case | onnx | 110 / 200 = 0.55 | 0.50 to 0.60 | 27.5 / 50.0 = 0.55 | 600 / 600 = 1.00 | 3.0e-6 |",
    );
  });
});

describe("floorTable", () => {
  it("counts two operations per multiply-add against the measured peak", () => {
    const table = floorTable(
      [
        {
          title: "case",
          parameters: 12.9e6,
          forwardMultiplyAdds: 10e9,
          stepMultiplyAdds: 30e9,
          stepBytes: 2e9,
          stepMs: { onnx: 400, PyTorch: 300 },
        },
      ],
      { gflops: 300, gigabytesPerSecond: 20 },
    );
    // 60 GFLOP at 300 GFLOP/s take 200 ms, 2 GB at 20 GB/s take 100 ms.
    expect(table.split("\n").at(-1)).toBe(
      "| case | 12.9 | 10.0 / 30.0 | 2.0 | 200 / 100 | onnx 150 (50%), PyTorch 200 (67%) |",
    );
  });
});

describe("withFigures", () => {
  it("replaces what stands between the markers, and nothing else", () => {
    const document = "# Title\n<!-- figures -->\nold\n<!-- end of figures -->\nafter\n";
    expect(withFigures(document, "new")).toBe("# Title\n<!-- figures -->\n\nnew\n\n<!-- end of figures -->\nafter\n");
  });

  it("refuses a document without markers", () => {
    expect(() => withFigures("# Title", "new")).toThrow("<!-- figures -->");
  });
});
