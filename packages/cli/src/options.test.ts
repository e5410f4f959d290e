import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { HostTensor } from "@sdxs/tensor";
import { writeSafetensorsFile } from "@sdxs/tensor/node";
import { describe, expect, it } from "vitest";
import { benchUsage } from "./bench.js";
import { calibrateUsage } from "./calibrate.js";
import { convertUsage } from "./convert.js";
import { exportUsage } from "./export.js";
import { generateUsage } from "./generate.js";
import { inspectUsage } from "./inspect.js";
import { folderWithModel, sdxs } from "./sdxs.test-support.js";
import { serveUsage } from "./serve.js";

const { folder, model } = folderWithModel();
const photo = fileURLToPath(new URL("../../runtime/fixtures/pictures/photo.jpg", import.meta.url));
const red = ["--prompt", "red", "--out", join(folder, "red.png")];

/** Arguments with an option that changes nothing, and what is said of it before any model is loaded. */
const refused: readonly (readonly [command: string, args: readonly string[], message: string])[] = [
  [
    "generate",
    [...red, "--negative-prompt", "blue", "--guidance", "1"],
    "--negative-prompt has no effect without guidance",
  ],
  [
    "generate",
    [...red, "--negative-prompt", "blue", "--guidance", "0"],
    "--negative-prompt has no effect without guidance",
  ],
  ["generate", [...red, "--strength", "0.5"], "--strength is of a picture to begin with: give --image, too."],
  ["generate", [...red, "--controlnet", "net"], "Each --controlnet follows one --control, got 1 and 0."],
  ["generate", [...red, "--controlnet", "net", "--control", photo, "--control", photo], "got 1 and 2."],
  ["generate", [...red, "--canny", "--image", photo], "--canny needs a picture: give --control, too."],
  ["generate", [...red, "--resize", "crop"], "--resize is of pictures that guide: give --image or --control, too."],
  [
    "generate",
    [...red, "--resize", "fit", "--size", "8", "--image", photo],
    "--resize fit takes the size from the picture",
  ],
  ["generate", [...red, "--resize", "none", "--size", "8", "--image", photo], "--resize none takes the size from the"],
  ["generate", [...red, "--int8", "int8.json", "--gpu", "float32"], "--int8 is for processors: give it, or --gpu."],
  ["generate", [...red, "--seeds", "1,2", "--seed", "3"], "--seeds says which pictures are drawn: leave --count and"],
  ["generate", [...red, "--seeds", "1,2", "--count", "3"], "--seeds says which pictures are drawn: leave --count and"],
  ["generate", [...red, "--guess-mode"], "--guess-mode has no effect without a ControlNet: give --control, too."],
  ["generate", [...red, "--seed", "1", "--seed", "2"], "Option '--seed' was given more than once."],
  ["generate", [...red, "--canny", "--canny", "--control", photo], "Option '--canny' was given more than once."],
  ["serve", ["--int8", "int8.json", "--gpu", "float32"], "--int8 is for processors: give it, or --gpu."],
  ["serve", ["--port", "0", "--port", "1"], "Option '--port' was given more than once."],
  ["bench", ["--int8", "int8.json", "--gpu", "float32"], "--int8 is for processors: give it, or --gpu."],
  ["bench", ["--embedding", "toy.safetensors"], "--embedding has no effect: sdxs bench draws prompts of its own."],
  ["bench", ["--size", "8", "--size", "16"], "Option '--size' was given more than once."],
  ["calibrate", ["--prompt", "red", "--steps", "1", "--steps", "2"], "Option '--steps' was given more than once."],
  ["export", ["--out", "onnx", "--stage", "text_encoder", "--size", "8"], "--size has no effect on the text encoder"],
  ["export", ["--out", "onnx", "--compute", "fp16", "--precision", "fp32"], "--precision fp32 has no effect with"],
  ["export", ["--out", "onnx", "--batch", "1", "--batch", "2"], "Option '--batch' was given more than once."],
  ["inspect", ["--json", "--json"], "Option '--json' was given more than once."],
  ["convert", ["out", "--precision", "fp16", "--precision", "bf16"], "Option '--precision' was given more than once."],
];

it.each(refused)("%s refuses %j, which would have no effect", async (command, args, message) => {
  const run = await sdxs([command, join(folder, "not looked for"), ...args]);
  expect(run).toMatchObject({ exitCode: 2, out: [], notes: [expect.stringContaining(message)] });
});

it.each([
  [["--negative-prompt", "blue"], "negativePrompt has no effect with a guidanceScale of 1"],
  [["--size", "4x8"], "a picture of 4x8 is far from the 12x8 pixels that the U-Net was trained on"],
  [["--image", photo, "--resize", "none"], "a picture of 40x24 is far from the 12x8 pixels"],
])("generate draws with %j, and warns once of what the model makes of it", async (args, message) => {
  const run = await sdxs(["generate", model, ...red, "--count", "2", ...args]);
  expect(run.exitCode).toBe(0);
  expect(run.notes.filter((note) => note.startsWith("sdxs: warning: "))).toEqual([expect.stringContaining(message)]);
});

it("generate warns of a textual inversion whose token no prompt holds", async () => {
  const embedding = join(folder, "toy.safetensors");
  await writeSafetensorsFile(embedding, { "<toy>": HostTensor.filled([8], 0.1) });
  const drawn = async (prompt: string) =>
    (await sdxs(["generate", model, "--prompt", prompt, "--embedding", embedding, "--out", join(folder, "toy.png")]))
      .notes;
  expect(await drawn("red")).toContain(`sdxs: warning: no prompt holds the token of --embedding, "<toy>".`);
  expect((await drawn("red <toy>")).filter((note) => note.includes("warning"))).toEqual([]);
});

/** Options that act whatever stands beside them. */
const alwaysInEffect: Readonly<Record<string, readonly string[]>> = {
  generate: ["scheduler", "prompt", "count", "steps", "lora", "out", "image", "control", "embedding"],
  serve: [
    "scheduler",
    "host",
    "allow-host",
    "embedding",
    "size",
    "max-images",
    "max-waiting",
    "grace",
    "steps",
    "guidance",
  ],
  bench: ["scheduler", "runs", "steps", "guidance"],
  calibrate: ["scheduler", "prompt", "guidance", "size", "out"],
  export: ["out"],
  inspect: [],
  convert: [],
};

describe("every option of a command acts always, or is refused or warned of where it does not", () => {
  it.each([
    ["generate", generateUsage],
    ["serve", serveUsage],
    ["bench", benchUsage],
    ["calibrate", calibrateUsage],
    ["export", exportUsage],
    ["inspect", inspectUsage],
    ["convert", convertUsage],
  ])("%s", (command, usage) => {
    const options = [...usage.matchAll(/^ {2}--([a-z0-9-]+)/gm)].map(([, name]) => name!);
    const inTable = refused
      .filter(([name]) => name === command)
      .flatMap(([, args]) => args.filter((arg) => arg.startsWith("--")).map((arg) => arg.slice(2)));
    const known = new Set([...inTable, ...alwaysInEffect[command]!]);
    expect(options.filter((name) => !known.has(name))).toEqual([]);
    expect(options.length).toBeGreaterThan(0);
  });
});
