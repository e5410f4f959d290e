import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { canny, controlNetFromUNet, controlNetParameters } from "@sdxs/controlnet";
import { loraParameters, writeLora } from "@sdxs/lora";
import { createPipeline, fromPng, toPng, toRgba } from "@sdxs/runtime";
import { saveModel } from "@sdxs/runtime/node";
import { mapTensors, random } from "@sdxs/tensor";
import { writeSafetensorsFile } from "@sdxs/tensor/node";
import { onnxBackend } from "@sdxs/tensor/onnx";
import * as ort from "onnxruntime-node";
import sharp from "sharp";
import { expect, it, vi } from "vitest";
import { randomWeights, tinyPipeline } from "../../runtime/src/pipeline/tiny-pipeline.test-support.js";
import { folderWithModel, sdxs } from "./sdxs.test-support.js";

const { folder, model } = folderWithModel();
const layer = "text_model.encoder.layers.0.self_attn.q_proj";

it("draws the picture that the pipeline draws", async () => {
  const out = join(folder, "red.png");
  const options = ["--prompt", "red", "--seed", "7", "--size", "16x8", "--steps", "2", "--guidance", "3", "--out", out];
  expect(await sdxs(["generate", model, ...options])).toEqual({
    exitCode: 0,
    out: [out],
    notes: [expect.stringMatching(/^1\/1: "red", seed 7, \d+ ms$/)],
  });
  const pipeline = createPipeline({ components: tinyPipeline, backend: onnxBackend({ ort }) });
  const { images } = await pipeline.generate("red", { seed: 7, width: 16, height: 8, steps: 2, guidanceScale: 3 });
  const { data, info } = await sharp(out).ensureAlpha().raw().toBuffer({ resolveWithObject: true });
  expect(info).toMatchObject({ width: 16, height: 8 });
  expect(new Uint8ClampedArray(data)).toEqual(toRgba(images)[0]?.data);
  await pipeline.dispose();
});

it("draws by another sampler", async () => {
  const out = join(folder, "heun.png");
  const run = await sdxs(["generate", model, "--prompt", "red", "--scheduler", "heun", "--steps", "2", "--out", out]);
  expect(run).toMatchObject({ exitCode: 0, out: [out] });
  const pipeline = createPipeline({ components: tinyPipeline, backend: onnxBackend({ ort }) });
  const { images } = await pipeline.generate("red", { scheduler: "HeunDiscreteScheduler", steps: 2 });
  const { data } = await sharp(out).ensureAlpha().raw().toBuffer({ resolveWithObject: true });
  expect(new Uint8ClampedArray(data)).toEqual(toRgba(images)[0]?.data);
  await pipeline.dispose();
});

it("draws several pictures of several prompts, with seeds that count up, into numbered files", async () => {
  const out = join(folder, "many.png");
  const run = await sdxs(["generate", model, "--prompt", "red", "--prompt", "red red", "--count", "2", "--out", out]);
  const path = (number: number) => join(folder, `many-${number}.png`);
  expect(run.out).toEqual([1, 2, 3, 4].map(path));
  expect(run.notes.map((note) => /"(.*)", seed (\d)/.exec(note)?.slice(1))).toEqual([
    ["red", "0"],
    ["red", "1"],
    ["red red", "0"],
    ["red red", "1"],
  ]);
  expect(await sdxs(["generate", model, "--prompt", "red", "--seed", "1", "--out", out])).toMatchObject({
    exitCode: 0,
  });
  expect(await readFile(path(2))).toEqual(await readFile(out));
});

it("draws by LoRAs, weighed", async () => {
  const [plain, styled, none] = ["plain.png", "styled.png", "none.png"].map((name) => join(folder, name));
  const declared = loraParameters(tinyPipeline.unet.params, { rank: 2, targets: ["to_q", "to_v"] });
  const params = mapTensors(declared.params, ({ shape }, name) => random(1, name).normal(shape));
  const lora = { ...declared, params };
  const file = join(folder, "style.safetensors");
  await writeSafetensorsFile(file, writeLora({ unet: lora }, { unet: tinyPipeline.unet.params }, "diffusers"));
  for (const [out, options] of [
    [plain, []],
    [styled, ["--lora", file]],
    [none, ["--lora", `${file}=0`]],
  ] as const) {
    const run = await sdxs(["generate", model, "--prompt", "red", "--out", out!, ...options]);
    expect(run).toMatchObject({ exitCode: 0 });
  }
  expect(await readFile(styled!)).not.toEqual(await readFile(plain!));
  expect(await readFile(none!)).toEqual(await readFile(plain!));
});

it("gives a PEFT LoRA the strength that the adapter_config.json beside it says, and takes its folder", async () => {
  const { unet } = tinyPipeline;
  const declared = loraParameters(unet.params, { rank: 2, targets: ["to_q", "to_v"] });
  const params = mapTensors(declared.params, ({ shape }, name) => random(1, name).normal(shape));
  const save = async (name: string, alpha: number) => {
    await mkdir(join(folder, name));
    const file = join(folder, name, "adapter_model.safetensors");
    await writeSafetensorsFile(
      file,
      writeLora({ unet: { params, alphas: mapTensors(declared.alphas, () => alpha) } }, { unet: unet.params }, "peft"),
    );
    return file;
  };
  const draw = async (name: string, lora: string) => {
    const out = join(folder, `${name}.png`);
    const { exitCode, notes } = await sdxs(["generate", model, "--prompt", "red", "--lora", lora, "--out", out]);
    expect(exitCode).toBe(0);
    return { picture: await readFile(out), warnings: notes.filter((note) => note.startsWith("sdxs: warning")) };
  };
  const stored = await save("as-stored", 2);
  const stronger = await draw("stronger", await save("times-four", 8)); // alpha 8 at rank 2, multiplied into B
  const alone = await draw("alone", stored);
  expect(alone.warnings).toEqual([expect.stringMatching(/adapter_model.safetensors: The alpha of \d+ layers of unet/)]);
  expect(alone.picture).not.toEqual(stronger.picture);
  await writeFile(join(folder, "as-stored", "adapter_config.json"), JSON.stringify({ r: 2, lora_alpha: 8 }));
  for (const lora of [stored, join(folder, "as-stored"), `${join(folder, "as-stored")}=1`]) {
    expect(await draw("configured", lora)).toEqual({ picture: stronger.picture, warnings: [] });
  }
});

it("says which of a LoRA's entries have no effect, and where there is none", async () => {
  const file = join(folder, "two-encoders.safetensors");
  const [down, up] = [random(1).normal([1, 8]), random(2).normal([8, 1])];
  await writeSafetensorsFile(file, {
    ...writeLora(
      { text_encoder: { params: { [`${layer}.lora_A.weight`]: down, [`${layer}.lora_B.weight`]: up }, alphas: {} } },
      { text_encoder: tinyPipeline.text_encoder.params },
      "kohya",
    ),
    "lora_te2_text_model_x.lora_down.weight": down,
  });
  const run = await sdxs(["generate", model, "--prompt", "red", "--lora", file, "--out", join(folder, "te.png")]);
  expect(run.exitCode).toBe(0);
  expect(run.notes[0]).toMatch(
    /^sdxs: warning: .*two-encoders.safetensors: The file's entries for text_encoder_2 \(1, as /,
  );
  const empty = await sdxs(["generate", model, "--prompt", "red", "--lora", model]);
  expect(empty.notes.at(-1)).toContain("expected adapter_model.safetensors or pytorch_lora_weights.safetensors");
});

it("draws by a textual inversion", async () => {
  const file = join(folder, "toy.safetensors");
  await writeSafetensorsFile(file, { emb_params: random(3).normal([2, 8]) });
  const draw = async (...options: string[]) => {
    const out = join(folder, "toy.png");
    const run = await sdxs(["generate", model, "--out", out, ...options]);
    return { ...run, picture: await readFile(out).catch(() => undefined) };
  };
  const named = await draw("--prompt", "red <toy>", "--embedding", `${file}=<toy>`);
  const byFile = await draw("--prompt", "red toy", "--embedding", file);
  expect([named.exitCode, byFile.exitCode]).toEqual([0, 0]);
  expect(named.picture).toEqual(byFile.picture);
  expect((await draw("--prompt", "red")).picture).not.toEqual(named.picture);
});

it("draws from a picture, and under a ControlNet, by the edges of a picture if asked to", async () => {
  const plan = controlNetFromUNet(tinyPipeline.unet.config, { conditioning_embedding_out_channels: [4, 8] });
  const params = randomWeights(controlNetParameters(plan.config), 5);
  const net = { className: "ControlNetModel", config: plan.config, params } as const;
  await saveModel(join(folder, "net"), net);
  const [picture, out] = [join(folder, "square.png"), join(folder, "guided.png")];
  const bytes = Uint8ClampedArray.from({ length: 4 * 8 * 12 }, (_, i) => (i % 48 < 24 || i % 4 === 3 ? 255 : 30));
  await writeFile(picture, await toPng({ width: 12, height: 8, data: bytes }));
  const image = await fromPng(await readFile(picture));
  const pipeline = createPipeline({
    components: { ...tinyPipeline, controlnet: [net] },
    backend: onnxBackend({ ort }),
  });
  const common = ["generate", model, "--prompt", "red", "--seed", "3", "--out", out];
  for (const [options, same] of [
    [["--image", picture, "--strength", "0.5"], { image, strength: 0.5 }],
    [
      ["--controlnet", join(folder, "net"), "--control", `${picture}=0.5`, "--canny"],
      { controls: [{ image: canny(image), scale: 0.5 }] },
    ],
  ] as const) {
    expect(await sdxs([...common, ...options])).toMatchObject({ exitCode: 0 });
    const { images } = await pipeline.generate("red", { seed: 3, ...same });
    expect(toRgba(await fromPng(await readFile(out)))).toEqual(toRgba(images));
  }
  await pipeline.dispose();
});

it("draws by a model of the web", async () => {
  const server = createServer((request, response) => {
    const path = join(folder, decodeURIComponent(new URL(request.url!, "http://x").pathname));
    readFile(path).then(
      (content) =>
        response
          .writeHead(200, { "content-length": content.length })
          .end(request.method === "HEAD" ? undefined : content),
      () => response.writeHead(404).end(),
    );
  });
  await new Promise<void>((listening) => server.listen(0, listening));
  vi.stubEnv("XDG_CACHE_HOME", join(folder, "cache"));
  const { port } = server.address() as AddressInfo;
  const [near, far] = ["near.png", "far.png"].map((name) => join(folder, name));
  await sdxs(["generate", model, "--prompt", "red", "--out", near!]);
  const run = await sdxs(["generate", `http://127.0.0.1:${port}/model`, "--prompt", "red", "--out", far!]);
  vi.unstubAllEnvs();
  server.close();
  expect(run).toMatchObject({ exitCode: 0, out: [far] });
  expect(await readFile(far!)).toEqual(await readFile(near!));
});

it("says that a prompt was cut", async () => {
  const out = join(folder, "cut.png");
  const { notes } = await sdxs(["generate", model, "--prompt", "red red red red red", "--out", out]);
  expect(notes[0]).toMatch(/^sdxs: warning: The prompt .* its last words were cut/);
});

it.each([
  [["--prompt", "red", "--size", "15"], 2, "INVALID_ARGUMENT: generate: height must be a multiple of 2 pixels, got 15"],
  [["--prompt", "red", "--size", "big"], 2, "INVALID_ARGUMENT: --size must be WIDTHxHEIGHT"],
  [
    ["--prompt", "red", "--scheduler", "euler_a"],
    2,
    "INVALID_ARGUMENT: --scheduler must be ddim, ddpm, pndm, euler, euler-ancestral",
  ],
  [["--prompt", "red", "--steps", "0"], 2, "INVALID_ARGUMENT: --steps must be a whole number of at least 1"],
  [["--prompt", "red", "--seed", "-1"], 2, "INVALID_ARGUMENT: Option '--seed' argument is ambiguous"],
  [["--prompt", "red", "--seed=-1"], 2, "INVALID_ARGUMENT: --seed must be a whole number of at least 0"],
  [["--prompt", "red", "--guidance", "high"], 2, "INVALID_ARGUMENT: --guidance must be a number"],
  [["--prompt", "red", "--out", "red.jpg"], 2, "INVALID_ARGUMENT: --out must be the name of a PNG file"],
  [["--prompt", "red", "--out", "/nowhere/red.png"], 1, "MISSING_FILE: There is no folder at /nowhere"],
  [["--prompt", "red", "--colour", "red"], 2, "INVALID_ARGUMENT: Unknown option '--colour'. See: sdxs generate --help"],
  [["red", "--prompt", "red"], 2, `INVALID_ARGUMENT: Expected MODEL, got "${model}" "red".`],
  [["--prompt", "red", "--canny"], 2, "INVALID_ARGUMENT: --canny needs a picture: give --control, too."],
  [["--prompt", "red", "--control", "none.png"], 1, "MISSING_FILE: --control none.png: There is no file at none.png"],
  [["--prompt", "red", "--image", "package.json"], 1, "MALFORMED_FILE: --image package.json: readPicture: this is no"],
  [[], 2, "INVALID_ARGUMENT: Give at least one --prompt"],
] as const)("says in one line what is wrong with %j", async (args, exitCode, message) => {
  const run = await sdxs(["generate", model, ...args]);
  expect(run).toMatchObject({ exitCode, out: [], notes: [expect.stringContaining(`sdxs: ${message}`)] });
  expect(run.notes[0]).not.toContain("\n");
});

it("says that there is no model", async () => {
  const run = await sdxs(["generate", join(folder, "none"), "--prompt", "red"]);
  expect(run).toMatchObject({
    exitCode: 1,
    notes: [expect.stringContaining("sdxs: MISSING_FILE: There is no folder")],
  });
});

it("stops when it is interrupted, and leaves no half a file", async () => {
  const out = join(folder, "stopped.png");
  const run = await sdxs(["generate", model, "--prompt", "red", "--out", out], AbortSignal.abort());
  expect(run).toEqual({ exitCode: 130, out: [], notes: ["sdxs: interrupted"] });
  expect((await readdir(folder)).filter((name) => name.includes("stopped"))).toEqual([]);
});

it("draws a picture of each seed that is listed", async () => {
  const out = join(folder, "listed.png");
  const run = await sdxs(["generate", model, "--prompt", "red", "--seeds", "9,1", "--out", out]);
  expect(run.notes.map((note) => /seed (\d+)/.exec(note)?.[1])).toEqual(["9", "1"]);
  expect(await sdxs(["generate", model, "--prompt", "red", "--seeds", "9", "--count", "2"])).toMatchObject({
    exitCode: 2,
    notes: [expect.stringContaining("--seeds says which pictures are drawn")],
  });
});

it("draws by a Stable Diffusion XL folder of diffusers as it is, and refuses to export it by name", async () => {
  const xl = fileURLToPath(new URL("../../runtime/fixtures/pipelines/xl", import.meta.url));
  const out = join(folder, "xl.png");
  expect(await sdxs(["generate", xl, "--prompt", "red", "--steps", "2", "--out", out])).toMatchObject({
    exitCode: 0,
    out: [out],
  });
  expect(await sdxs(["export", xl, "--out", join(folder, "onnx")])).toMatchObject({
    exitCode: 1,
    notes: [expect.stringContaining("pipelines of two text encoders, as Stable Diffusion XL's, are not exported")],
  });
});
