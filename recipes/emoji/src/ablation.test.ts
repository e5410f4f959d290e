import { expect, it } from "vitest";
import { ablationTable, openTable } from "./ablation.js";

it("ablationTable divides distances by the large decoder by the first model's", () => {
  const figures = {
    steps: 32,
    unetParameters: 7_000_000,
    decoderParameters: 500_000,
    functionEvaluations: 64,
    msPerImage: 400,
  };
  const evaluation = { frechet: 40, captionAgreement: 0.9, precision: 0.5, recall: 0.25 };
  const rows = [
    { label: "teacher", figures: { model: "teacher" as const, ...figures }, evaluation, largeDecoderFrechet: 40 },
    {
      label: "SSD",
      figures: { model: "student" as const, ...figures, functionEvaluations: 1, msPerImage: 12.34 },
      evaluation: { ...evaluation, frechet: 60 },
      largeDecoderFrechet: 50,
    },
  ];
  expect(ablationTable(rows).trim().split("\n").slice(2)).toEqual([
    "| teacher | 7.50 M | 64 | 400.0 | 40.00 | 40.00 | 1.00 | 90.0% | 50.0% | 25.0% |",
    "| SSD | 7.50 M | 1 | 12.3 | 60.00 | 50.00 | 1.25 | 90.0% | 50.0% | 25.0% |",
  ]);
});

it("openTable divides distances by the first model's", () => {
  const evaluation = { frechet: 40, captionAgreement: NaN, precision: 0.5, recall: 0.25 };
  const rows = [
    { label: "teacher", evaluation },
    { label: "SSD", evaluation: { ...evaluation, frechet: 50 } },
  ];
  expect(openTable(rows).trim().split("\n").slice(2)).toEqual([
    "| teacher | 40.00 | 1.00 | 50.0% | 25.0% |",
    "| SSD | 50.00 | 1.25 | 50.0% | 25.0% |",
  ]);
});
