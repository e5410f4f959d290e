import { expect, it } from "vitest";
import { figuresTable, type ModelFigures } from "./report.js";

const teacher = { model: "teacher", unetParameters: 7_540_000, decoderParameters: 420_000 } as const;
const figures: readonly ModelFigures[] = [
  { ...teacher, steps: 32, functionEvaluations: 64, msPerImage: 456.1 },
  { ...teacher, steps: 4, functionEvaluations: 8, msPerImage: 60.3, psnr: 31.04 },
  {
    model: "student",
    steps: 1,
    unetParameters: 3_490_000,
    decoderParameters: 70_000,
    functionEvaluations: 1,
    msPerImage: 6.7,
  },
];

it("figuresTable compares the student with the teacher in many steps and in as few as draw nearly the same", () => {
  const lines = figuresTable(figures).split("\n");
  expect(lines.slice(2)).toEqual([
    "| teacher, 32 steps | 7.54 M | 0.42 M | 64 | 456.1 |",
    "| teacher, 4 steps | 7.54 M | 0.42 M | 8 | 60.3 |",
    "| student, 1 step | 3.49 M | 0.07 M | 1 | 6.7 |",
    "",
    "The student is 68 times as fast as the teacher in 32 steps, and 9 times as fast as the teacher in 4 steps, which draws nearly the same (31.0 dB).",
    "",
  ]);
});
