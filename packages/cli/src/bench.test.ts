import { expect, it } from "vitest";
import { folderWithModel, sdxs } from "./sdxs.test-support.js";

const { model } = folderWithModel();

it("prints one line of JSON with the times of each stage", async () => {
  const { exitCode, out } = await sdxs(["bench", model, "--runs", "3", "--size", "16x8", "--steps", "2"]);
  expect(exitCode).toBe(0);
  expect(out).toHaveLength(1);
  const report = JSON.parse(out[0]!) as Record<"firstMs" | "medianMs", Record<string, number>>;
  const stages = {
    textEncoder: expect.any(Number),
    unet: expect.any(Number),
    decoder: expect.any(Number),
    whole: expect.any(Number),
  };
  expect(report).toMatchObject({ model, size: "16x8", steps: 2, runs: 3, firstMs: stages, medianMs: stages });
  // The first picture compiles each stage, which takes longer than a network of this size.
  expect(report.firstMs["whole"]).toBeGreaterThan(report.medianMs["whole"]!);
});

it("draws on the GPU in a precision that there is, without 8 bits", async () => {
  const refused = await sdxs(["bench", model, "--gpu", "int4"]);
  expect(refused.exitCode).toBe(2);
  expect(refused.notes.join("\n")).toContain(`--gpu must be float32 or float16, got "int4".`);
  const both = await sdxs(["bench", model, "--gpu", "float32", "--int8", "int8.json"]);
  expect(both.notes.join("\n")).toContain("--int8 is for processors: give it, or --gpu.");
});
