import * as ort from "onnxruntime-node";
import { fileURLToPath } from "node:url";
import { calibratePipeline, createPipeline } from "@sdxs/runtime";
import { loadPipelineFolder } from "@sdxs/runtime/node";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { expect, it } from "vitest";

const folder = fileURLToPath(new URL("../student", import.meta.url));
const backend = onnxBackend({ ort });

it("the shipped student draws in 8 bits what it draws in float32, prompts of the calibration or not", async () => {
  const { components } = await loadPipelineFolder(folder, {
    only: ["unet", "vae", "text_encoder", "tokenizer", "scheduler"],
  });
  // Ten, as `calibratePipeline` asks for: with two, a brighter picture's values are cut off (28.8 dB).
  const calibrated = [
    "a red apple, flat style, on a blue background",
    "a cat face, flat style, on a red background",
    "a car, noto style, on a white background",
    "a ghost, noto style, on a green background",
    "a penguin, noto style, on an orange background",
    "a house, flat style, on a pink background",
    "a star, noto style, on a purple background",
    "a panda, flat style, on a white background",
    "a guitar, noto style, on a yellow background",
    "a rose, flat style, on a blue background",
  ];
  const others = ["a robot, flat style, on a green background", "a rocket", "a pizza, flat style"];
  const int8 = await calibratePipeline({ components, backend }, calibrated);
  const exact = createPipeline({ components, backend });
  const rounded = createPipeline({ components, backend, int8 });
  for (const [seed, prompt] of [...calibrated.slice(0, 3), ...others].entries()) {
    const expected = (await exact.generate(prompt, { seed: seed + 10 })).images.data;
    const actual = (await rounded.generate(prompt, { seed: seed + 10 })).images.data;
    const squares = Array.from(actual, (value, i) => (value - expected[i]!) ** 2);
    const meanSquare = squares.reduce((sum, square) => sum + square) / squares.length;
    // Measured 38 to 48 dB, for values from -1 to 1; what is asked of 8 bits is 30.
    expect(10 * Math.log10(4 / meanSquare)).toBeGreaterThan(35);
    expect(meanSquare).toBeGreaterThan(0); // they are 8 bits
  }
  await exact.dispose();
  await rounded.dispose();
});
