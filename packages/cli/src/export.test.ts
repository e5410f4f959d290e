import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import * as ort from "onnxruntime-node";
import { expect, it } from "vitest";
import { folderWithModel, sdxs } from "./sdxs.test-support.js";

const { folder, model } = folderWithModel();

it("writes the whole pipeline by default, with inputs and outputs by their names", async () => {
  const out = join(folder, "whole", "fp32");
  expect(await sdxs(["export", model, "--out", out, "--size", "16x8", "--batch", "2"])).toEqual({
    exitCode: 0,
    out: [join(out, "whole.onnx")],
    notes: [],
  });
  expect(await readdir(out)).toEqual(["whole.onnx"]);
  const session = await ort.InferenceSession.create(join(out, "whole.onnx"));
  expect([...session.inputNames].sort()).toEqual(["ids", "noise"]);
  const { images } = await session.run({
    ids: new ort.Tensor("int32", new Int32Array(12), [2, 6]),
    noise: new ort.Tensor("float32", new Float32Array(2 * 4 * 4 * 8), [2, 4, 4, 8]),
  });
  expect(images?.dims).toEqual([2, 3, 8, 16]);
  await session.release();
});

it("computes in fp16 on request, which is smaller, too", async () => {
  const bytes = async (compute: string) => {
    const out = join(folder, `compute-${compute}`);
    await sdxs(["export", model, "--out", out, "--stage", "unet", "--compute", compute]);
    return (await stat(join(out, "unet.onnx"))).size;
  };
  expect(await bytes("fp16")).toBeLessThan(0.8 * (await bytes("fp32")));
});

it("leaves batch and size open on request", async () => {
  const out = join(folder, "any");
  const command = ["export", model, "--out", out, "--stage", "decoder", "--size", "any", "--batch", "any"];
  expect(await sdxs(command)).toMatchObject({ exitCode: 0 });
  const session = await ort.InferenceSession.create(join(out, "decoder.onnx"));
  for (const [batch, height, width] of [[2, 4, 8] as const, [1, 6, 2] as const]) {
    const latents = new ort.Tensor("float32", new Float32Array(batch * 4 * height * width), [batch, 4, height, width]);
    expect((await session.run({ latents }))["images"]?.dims).toEqual([batch, 3, 2 * height, 2 * width]);
  }
  await session.release();
});

it("writes the stages that are asked for, smaller in fp16", async () => {
  const bytes = async (precision: string, name: string) => {
    const out = join(folder, precision);
    const stages = ["--stage", "text_encoder", "--stage", "unet", "--stage", "decoder"];
    const run = await sdxs(["export", model, "--out", out, ...stages, "--precision", precision]);
    expect(run.out).toEqual(["text_encoder", "unet", "decoder"].map((stage) => join(out, `${stage}.onnx`)));
    return (await stat(join(out, name))).size;
  };
  expect(await bytes("fp16", "unet.onnx")).toBeLessThan(0.8 * (await bytes("fp32", "unet.onnx")));
});

it.each([
  [[], "Give --out. See: sdxs export --help"],
  [["--out", "x", "--stage", "vae"], '--stage must be one of text_encoder, unet, decoder, whole, got "vae".'],
  [["--out", "x", "--precision", "bf16"], '--precision must be one of fp32, fp16, got "bf16".'],
  [["--out", "x", "--compute", "int8"], '--compute must be one of fp32, fp16, got "int8".'],
])("refuses %j", async (args, message) => {
  expect(await sdxs(["export", model, ...args])).toEqual({
    exitCode: 2,
    out: [],
    notes: [`sdxs: INVALID_ARGUMENT: ${message}`],
  });
});
