import { resolve } from "node:path";
import { expect, it } from "vitest";
import { readRunOptions } from "../../run-options.js";

const read = (...args: string[]) =>
  readRunOptions(args, "tiny-unet", { steps: 500, "ablation-steps": 100 }, { style: ["3d", "line"], prompt: [] });

it("fills in defaults", () => {
  expect(read()).toMatchObject({
    numbers: { steps: 500, "ablation-steps": 100 },
    lists: { style: ["3d", "line"], prompt: [] },
    run: { seed: 1, output: resolve("tiny-unet"), restart: false, gpu: false },
  });
});

it("reads numbers, repeated options and what all commands have", () => {
  const args = ["--ablation-steps", "7", "--style", "3d", "--prompt", "a", "--prompt", "b"];
  expect(read(...args, "--seed", "3", "--output", "there", "--restart", "--gpu")).toMatchObject({
    numbers: { steps: 500, "ablation-steps": 7 },
    lists: { style: ["3d"], prompt: ["a", "b"] },
    run: { seed: 3, output: resolve("there"), restart: true, gpu: true },
  });
});

it("names an option that is no number, and refuses unknown ones", () => {
  expect(() => read("--ablation-steps", "many")).toThrow(/--ablation-steps/);
  expect(() => read("--seed", "-1x")).toThrow(/--seed/);
  expect(() => read("--stepz", "1")).toThrow(/--stepz/);
});
