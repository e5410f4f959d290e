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
  const calibrated = ["a red apple, flat style, on a blue background", "a cat face, flat style, on a red background"];
  const others = ["a robot, flat style, on a green background", "a rocket", "a pizza, flat style"];
  const int8 = await calibratePipeline({ components, backend }, calibrated);
  const exact = createPipeline({ components, backend });
  const rounded = createPipeline({ components, backend, int8 });
  for (const [seed, prompt] of [...calibrated, ...others].entries()) {
    const expected = (await exact.generate(prompt, { seed: seed + 10 })).images.data;
    const actual = (await rounded.generate(prompt, { seed: seed + 10 })).images.data;
    const squares = Array.from(actual, (value, i) => (value - expected[i]!) ** 2);
    const meanSquare = squares.reduce((sum, square) => sum + square) / squares.length;
    // Measured 41 to 51 dB, for values from -1 to 1; what is asked of 8 bits is 30.
    expect(10 * Math.log10(4 / meanSquare)).toBeGreaterThan(35);
    expect(meanSquare).toBeGreaterThan(0); // they are 8 bits
  }
  await exact.dispose();
  await rounded.dispose();
});
