import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as ort from "onnxruntime-node";
import { afterAll, describe, expect, it } from "vitest";
import { HostTensor, decodeFloat16, encodeFloat16, mapTensors, random, type HostParams } from "@sdxs/tensor";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { exportStage, type ExportStageOptions } from "./export-stage.js";
import { createPipeline } from "./pipeline.js";
import type { TextToImageComponents } from "../checkpoints/components.js";
import { tinyPipeline } from "./tiny-pipeline.test-support.js";

/** As a checkpoint of float16 gives them. */
const inHalf = (params: HostParams): HostParams =>
  mapTensors(params, ({ shape, data }) => new HostTensor(shape, decodeFloat16(encodeFloat16(data as Float32Array))));
const components: TextToImageComponents = {
  ...tinyPipeline,
  text_encoder: { ...tinyPipeline.text_encoder, params: inHalf(tinyPipeline.text_encoder.params) },
  unet: { ...tinyPipeline.unet, params: inHalf(tinyPipeline.unet.params) },
  vae: { ...tinyPipeline.vae, params: inHalf(tinyPipeline.vae.params) },
};
const noise = random(3).normal([2, 4, 4, 6]);
const prompts = ["red", "red red"];
const ids = components.tokenizer.encodeBatch(prompts);

/** @param file its path or its bytes */
async function run(file: string | Uint8Array, inputs: Readonly<Record<string, HostTensor>>): Promise<HostTensor> {
  const session = await ort.InferenceSession.create(file as string);
  const feeds = mapTensors(inputs, ({ dtype, data, shape }) => new ort.Tensor(dtype, data, shape));
  const [output] = Object.values(await session.run(feeds));
  await session.release();
  return new HostTensor(output!.dims, output!.data as Float32Array<ArrayBuffer>);
}

function expectClose(actual: HostTensor, expected: HostTensor): void {
  expect(actual.shape).toEqual(expected.shape);
  const differences = Array.from(expected.data, (value, i) => Math.abs(value - actual.data[i]!));
  expect(Math.max(...differences)).toBeLessThan(1e-5);
}

describe("exportStage writes what the pipeline draws", () => {
  const pipeline = createPipeline({ components, backend: onnxBackend({ ort, threads: 1 }) });
  const drawn = pipeline.generate(prompts, { noise });
  afterAll(() => pipeline.dispose());

  it.each<ExportStageOptions>([{}, { weights: "float16" }])("as one file, %j", async (options) => {
    const { model } = exportStage(components, "whole", { batch: 2, ...options });
    expectClose(await run(model, { ids, noise }), (await drawn).images);
  });

  it.each<ExportStageOptions>([{}, { weights: "float16" }])("as a file for each stage, %j", async (options) => {
    const [encoder, unet, decoder] = (["text_encoder", "unet", "decoder"] as const).map(
      (stage) => exportStage(components, stage, { batch: 2, ...options }).model,
    );
    const context = await run(encoder!, { ids });
    const latents = await run(unet!, { noise, context });
    expectClose(await run(decoder!, { latents }), (await drawn).images);
  });

  it("with the weights in a file beside it", async () => {
    const folder = await mkdtemp(join(tmpdir(), "sdxs-export-"));
    const { model, external } = exportStage(components, "whole", { batch: 2, externalName: "weights.data" });
    await writeFile(join(folder, "whole.onnx"), model);
    await writeFile(join(folder, "weights.data"), Buffer.concat(external["weights.data"] ?? []));
    expectClose(await run(join(folder, "whole.onnx"), { ids, noise }), (await drawn).images);
    await rm(folder, { recursive: true });
  });

  it("in float16, to its precision", async () => {
    const { model } = exportStage(components, "whole", { batch: 2, precision: "float16" });
    const [half, { images }] = [await run(model, { ids, noise }), await drawn];
    const differences = Array.from(images.data, (value, i) => Math.abs(value - half.data[i]!));
    expect(Math.max(...differences)).toBeLessThan(0.02);
    expect(Math.max(...differences)).toBeGreaterThan(1e-5);
  });

  it("in any batch and size by one file", async () => {
    const any = { batch: "any", width: "any", height: "any" } as const;
    const whole = exportStage(components, "whole", any).model;
    const [encoder, unet, decoder] = (["text_encoder", "unet", "decoder"] as const).map(
      (stage) => exportStage(components, stage, any).model,
    );
    const other = random(5).normal([1, 4, 8, 2]);
    const one = { ids: components.tokenizer.encodeBatch(["red"]), noise: other };
    const { images } = await pipeline.generate("red", { noise: other, width: 4, height: 16 });
    for (const [inputs, expected] of [[{ ids, noise }, (await drawn).images] as const, [one, images] as const]) {
      expectClose(await run(whole, inputs), expected);
      const context = await run(encoder!, { ids: inputs.ids });
      expectClose(await run(decoder!, { latents: await run(unet!, { noise: inputs.noise, context }) }), expected);
    }
  });

  it("in other sizes, by a scheduler that scales the noise", async () => {
    const euler = { ...components, scheduler: { ...components.scheduler, _class_name: "EulerDiscreteScheduler" } };
    const other = createPipeline({ components: euler, backend: onnxBackend({ ort, threads: 1 }) });
    const latents = random(4).normal([1, 4, 8, 4]);
    const { images } = await other.generate("red", {
      width: 8,
      height: 16,
      noise: latents,
      steps: 1,
      guidanceScale: 1,
    });
    const { model } = exportStage(euler, "whole", { width: 8, height: 16 });
    expectClose(await run(model, { ids: components.tokenizer.encodeBatch(["red"]), noise: latents }), images);
    await other.dispose();
  });
});

it("exportStage refuses a batch or a size that does not fit", () => {
  expect(() => exportStage(components, "unet", { batch: 0 })).toThrow(/batch must be a whole number of at least 1/);
  expect(() => exportStage(components, "decoder", { width: 15 })).toThrow(/width must be a multiple of 2 pixels/);
});
