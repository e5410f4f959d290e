import { readFileSync } from "node:fs";
import { countArithmetic, sizeOf } from "@sdxs/tensor";
import { parseUNetConfig, unetParameters } from "@sdxs/tiny-unet";
import { describe, expect, it } from "vitest";
import { CASES, selectCases } from "./cases.js";
import { denoisingTask, learningInputs, randomInputs } from "./denoising-task.js";

const read = (path: string) => parseUNetConfig(JSON.parse(readFileSync(path, "utf8")));

describe("the benchmark's cases", () => {
  it.each([
    ["unet-13m", 12_899_524],
    ["unet-50m", 50_334_084],
    ["unet-sd21-shape", 44_135_876],
    ["unet-sdxs-512", 318_695_364], // as diffusers counts it; the paper says 319 M
  ])("%s has as many parameters as the same network in PyTorch", (name, parameters) => {
    const [benchmark] = selectCases([name]);
    const specs = unetParameters(read(benchmark!.config));
    expect(Object.values(specs).reduce((total, { shape }) => total + sizeOf(shape), 0)).toBe(parameters);
  });

  it("names the known cases where one is unknown", () => {
    expect(() => selectCases(["unet-13m", "vae"])).toThrow(/unet-50m.*got "vae"/);
    expect(selectCases([])).toBe(CASES);
  });
});

describe("denoisingTask", () => {
  const config = read(CASES[0]!.config);
  const task = denoisingTask(config, { batch: 2, height: 8, width: 16 });

  it("takes the inputs of diffusers under their names, and a target of the prediction's shape", () => {
    expect(learningInputs(config, task)).toEqual({
      sample: { shape: [2, 4, 8, 16] },
      timestep: { shape: [2], dtype: "int32" },
      encoder_hidden_states: { shape: [2, 77, 256] },
      target: { shape: [2, 4, 8, 16] },
    });
  });

  it("needs three forward passes per step, except where a layer's input is data and needs no gradient", () => {
    const specs = unetParameters(config);
    const forward = countArithmetic(task.predict, specs, task.inputs).multiplyAdds;
    const step = countArithmetic(task.learn(Object.keys(specs)), specs, learningInputs(config, task)).multiplyAdds;
    const firstConvolution = 2 * (8 * 16) * 64 * (4 * 3 * 3);
    const firstTimeLayer = 2 * 64 * 256;
    // Keys and values of 77 text tokens in one transformer per layer: one down and two up at 128 and at 256 channels.
    const textProjections = 2 * (2 * 77) * 256 * (3 * 128 + 3 * 256);
    expect(step).toBe(3 * forward - firstConvolution - firstTimeLayer - textProjections);
  });

  it("needs most of a fourth with checkpointing", () => {
    const specs = unetParameters(config);
    const checkpointed = denoisingTask(config, { batch: 2, height: 8, width: 16, checkpointing: true });
    const inputs = learningInputs(config, task);
    const [forward, step, longer] = [
      task.predict,
      ...[task, checkpointed].map(({ learn }) => learn(Object.keys(specs))),
    ].map((program) => countArithmetic(program, specs, inputs).multiplyAdds);
    // All but the last layer of each block: its result is needed no more.
    expect((longer! - step!) / forward!).toBeGreaterThan(0.5);
    expect((longer! - step!) / forward!).toBeLessThan(1);
  });

  it("gives the same inputs for the same seed", () => {
    const specs = learningInputs(config, task);
    expect(randomInputs(specs, 1)).toEqual(randomInputs(specs, 1));
    expect(randomInputs(specs, 1)["sample"]?.data).not.toEqual(randomInputs(specs, 2)["sample"]?.data);
    expect(randomInputs(specs, 1)["target"]?.data).not.toEqual(randomInputs(specs, 1)["sample"]?.data);
  });
});
