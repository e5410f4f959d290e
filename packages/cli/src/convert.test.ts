import { join } from "node:path";
import { loadModel, loadPipelineFolder } from "@sdxs/runtime/node";
import { HostTensor, decodeBfloat16, decodeFloat16, encodeBfloat16, encodeFloat16, mapTensors } from "@sdxs/tensor";
import { openSafetensorsFile, readSafetensorsFile, writeSafetensorsFile } from "@sdxs/tensor/node";
import { expect, it } from "vitest";
import { tinyPipeline } from "../../runtime/src/pipeline/tiny-pipeline.test-support.js";
import { folderWithModel, sdxs } from "./sdxs.test-support.js";

const { folder, model } = folderWithModel();

const through =
  (round: (data: Float32Array) => Float32Array<ArrayBuffer>) =>
  ({ shape, data }: HostTensor): HostTensor =>
    new HostTensor(shape, round(data as Float32Array));
const inHalf = through((data) => decodeFloat16(encodeFloat16(data)));
const inBfloat16 = through((data) => decodeBfloat16(encodeBfloat16(data)));

it("stores a whole pipeline in fp16", async () => {
  const to = join(folder, "half");
  expect(await sdxs(["convert", model, to, "--precision", "fp16"])).toEqual({ exitCode: 0, out: [to], notes: [] });
  const { components } = await loadPipelineFolder(to);
  expect(components.unet?.params).toEqual(mapTensors(tinyPipeline.unet.params, inHalf));
  expect(components.vae?.params).toEqual(mapTensors(tinyPipeline.vae.params, inHalf));
  expect(components.scheduler).toEqual(tinyPipeline.scheduler);
});

it("stores one model in bf16, and back in fp32", async () => {
  const [narrow, wide] = [join(folder, "narrow"), join(folder, "wide")];
  await sdxs(["convert", join(model, "unet"), narrow, "--precision", "bf16"]);
  await sdxs(["convert", narrow, wide, "--precision", "fp32"]);
  const expected = mapTensors(tinyPipeline.unet.params, inBfloat16);
  for (const [path, dtype] of [
    [narrow, "BF16"],
    [wide, "F32"],
  ] as const) {
    expect((await loadModel(path)).params).toEqual(expected);
    const file = await openSafetensorsFile(join(path, "diffusion_pytorch_model.safetensors"));
    expect(file.info("conv_in.weight").dtype).toBe(dtype);
    await file.close();
  }
});

it("stores a file in another precision, with its metadata and its whole numbers", async () => {
  const [from, to] = [join(folder, "from.safetensors"), join(folder, "to.safetensors")];
  const tensors = { x: HostTensor.from([2], [0.1, 2]), steps: new HostTensor([1], Int32Array.of(7)) };
  await writeSafetensorsFile(from, tensors, { metadata: { format: "pt" } });
  await sdxs(["convert", from, to, "--precision", "fp16"]);
  expect(await readSafetensorsFile(to)).toEqual({
    tensors: { ...tensors, x: inHalf(tensors.x) },
    metadata: { format: "pt" },
  });
});

it.each([
  [["a", "b"], "Give --precision. See: sdxs convert --help"],
  [["a", "b", "--precision", "int8"], '--precision must be one of fp32, fp16, bf16, got "int8".'],
  [["a", "--precision", "fp16"], 'Expected IN OUT, got "a". See: sdxs convert --help'],
  [
    ["a.safetensors", "b", "--precision", "fp16"],
    'IN and OUT must both be safetensors files or both be folders, got "a.safetensors" "b".',
  ],
])("refuses %j", async (args, message) => {
  expect(await sdxs(["convert", ...args])).toEqual({
    exitCode: 2,
    out: [],
    notes: [`sdxs: INVALID_ARGUMENT: ${message}`],
  });
});
