import { mkdtempSync, rmSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { HostTensor, writeSafetensors } from "@sdxs/tensor";
import { afterAll, afterEach, expect, it, vi } from "vitest";
import { fetchPipeline } from "./fetch-pipeline.js";
import { loadModel } from "./model-folder.js";
import { loadPipelineFolder } from "./pipeline-folder.js";

const folder = mkdtempSync(join(tmpdir(), "sdxs-single-file-"));
afterAll(() => rmSync(folder, { recursive: true }));
afterEach(() => vi.unstubAllGlobals());

/** A safetensors file of tensors of one value. */
const fileOf = (...names: readonly string[]): Uint8Array =>
  writeSafetensors(Object.fromEntries(names.map((name) => [name, HostTensor.filled([1], 0)])));

// Names of tensors as published files have them.
const original = "model.diffusion_model.input_blocks.0.0.weight";
const cases = [
  [
    "sd.safetensors",
    fileOf(original, "first_stage_model.decoder.conv_in.weight"),
    /Stable Diffusion in its original/,
    "StableDiffusionPipeline",
  ],
  [
    "sdxl.safetensors",
    fileOf(original, "conditioner.embedders.0.transformer.text_model.final_layer_norm.weight"),
    /Stable Diffusion XL in its original naming, in a single file/,
    "StableDiffusionXLPipeline",
  ],
  [
    "net.safetensors",
    fileOf("control_model.input_hint_block.0.weight"),
    /a ControlNet in its original/,
    "ControlNetModel",
  ],
  ["old.ckpt", Uint8Array.of(0x50, 0x4b), /is a pickled file, which can run any code/, "StableDiffusionPipeline"],
  ["lora.safetensors", fileOf("lora_unet_mid_block.lora_down.weight"), /is a LoRA;/, "readLora"],
] as const;

it.each(cases)("of %s it is said what it is, and how to convert it", async (name, content, what, advice) => {
  const path = join(folder, name);
  await writeFile(path, content);
  const error = { code: "UNSUPPORTED_OPERATION", message: expect.stringMatching(what) };
  const loading = loadPipelineFolder(path);
  await expect(loading).rejects.toMatchObject(error);
  await expect(loading).rejects.toThrow("expected the folder of a pipeline. Single files are not supported yet. ");
  await expect(loading).rejects.toThrow(advice);
  await expect(loadModel(path)).rejects.toMatchObject(error);
});

it("of a file on the web it is said from its header", async () => {
  const content = fileOf(original);
  vi.stubGlobal("fetch", (_: unknown, { headers }: RequestInit = {}) => {
    const range = /bytes=(\d+)-(\d*)/.exec(new Headers(headers).get("range") ?? "");
    if (!range)
      return Promise.resolve(new Response(content.slice(), { headers: { "content-length": `${content.length}` } }));
    const [from, to] = [Number(range[1]), range[2] ? Number(range[2]) + 1 : content.length];
    const part = content.slice(from, to);
    const contentRange = `bytes ${from}-${from + part.length - 1}/${content.length}`;
    return Promise.resolve(new Response(part, { status: 206, headers: { "content-range": contentRange } }));
  });
  await expect(fetchPipeline("https://example.org/models/sd.safetensors")).rejects.toMatchObject({
    code: "UNSUPPORTED_OPERATION",
    message: expect.stringMatching(
      /^https:\/\/example\.org\/models\/sd\.safetensors is a checkpoint of Stable Diffusion/,
    ),
  });
});

it("of other weights it is said what they need", async () => {
  const path = join(folder, "other.safetensors");
  await writeFile(path, fileOf("conv_in.weight"));
  await expect(loadPipelineFolder(path)).rejects.toMatchObject({
    code: "UNSUPPORTED_OPERATION",
    message: expect.stringContaining("is a file of weights alone; expected the folder of a pipeline."),
  });
  await expect(loadModel(path)).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
});

it("a path where nothing is stays a missing folder", async () => {
  await expect(loadPipelineFolder(join(folder, "none.safetensors"))).rejects.toMatchObject({
    code: "MISSING_FILE",
    message: expect.stringContaining("There is no"),
  });
});
