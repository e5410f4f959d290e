import { HostTensor } from "@sdxs/tensor";
import { onnxBackend } from "@sdxs/tensor/onnx";
import * as ort from "onnxruntime-node";
import { expect, it } from "vitest";
import { calibratePipeline } from "./calibrate-pipeline.js";
import { components, controlled, randomLora } from "./pipeline-case.test-support.js";
import { createPipeline } from "./pipeline.js";

const backend = onnxBackend({ ort, threads: 1 });

it("calibratePipeline notes the ranges of U-Net, ControlNets and decoder over all prompts", async () => {
  const controls = [{ image: HostTensor.filled([1, 3, 8, 12], 1) }];
  const options = { components: controlled, backend };
  const one = await calibratePipeline(options, ["red"], { controls });
  const both = await calibratePipeline(options, ["red", "red red"], { controls });
  const names = Object.keys(both.unet);
  expect(names).toContain("unet.conv_in.weight");
  expect(names).toContain("controlnet.0.conv_in.weight");
  expect(Object.keys(both.decoder)).toContain("decoder.layers.0.weight");
  for (const [name, { input, output }] of Object.entries(both.unet)) {
    const before = one.unet[name]!;
    expect(input[0]).toBeLessThanOrEqual(before.input[0]);
    expect(output[1]).toBeGreaterThanOrEqual(before.output[1]);
  }
});

it("a calibrated pipeline draws with LoRAs, which stay in float32", async () => {
  const int8 = await calibratePipeline({ components, backend }, ["red"]);
  const pipeline = createPipeline({ components, backend, int8 });
  const plain = createPipeline({ components, backend });
  const loras = [{ unet: randomLora(components.unet.params, ["to_q", "conv1"], 1) }];
  // These networks are too narrow for 8 bits, so that both draw the same.
  for (const options of [{}, { loras }, {}]) {
    expect((await pipeline.generate("red", options)).images).toEqual((await plain.generate("red", options)).images);
  }
  await pipeline.dispose();
  await plain.dispose();
});
