import { copyFile, readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { canny, controlNetFromUNet, controlNetParameters } from "@sdxs/controlnet";
import { createPipeline, fromPng, resizePicture, toRgba, type GenerateOptions } from "@sdxs/runtime";
import { readPicture, saveModel } from "@sdxs/runtime/node";
import { HostTensor } from "@sdxs/tensor";
import { onnxBackend } from "@sdxs/tensor/onnx";
import * as ort from "onnxruntime-node";
import { afterAll, beforeAll, expect, it } from "vitest";
import { randomWeights, tinyPipeline } from "../../runtime/src/pipeline/tiny-pipeline.test-support.js";
import { folderWithModel, sdxs } from "./sdxs.test-support.js";

const { folder, model } = folderWithModel();
const file = (name: string): string =>
  fileURLToPath(new URL(`../../runtime/fixtures/pictures/${name}`, import.meta.url));
const plan = controlNetFromUNet(tinyPipeline.unet.config, { conditioning_embedding_out_channels: [4, 8] });
const params = randomWeights(controlNetParameters(plan.config), 5);
const net = { className: "ControlNetModel", config: plan.config, params } as const;
const pipeline = createPipeline({
  components: { ...tinyPipeline, controlnet: [net] },
  backend: onnxBackend({ ort }),
});
beforeAll(() => saveModel(join(folder, "net"), net));
afterAll(() => pipeline.dispose());

const out = join(folder, "guided.png");
const withNet = ["--controlnet", join(folder, "net")];

/** The command draws what the pipeline draws with these options. */
async function expectDrawn(args: readonly string[], options: GenerateOptions): Promise<readonly string[]> {
  const run = await sdxs(["generate", model, "--prompt", "red", "--seed", "3", "--out", out, ...args]);
  expect(run).toMatchObject({ exitCode: 0, out: [out] });
  const { images } = await pipeline.generate("red", { seed: 3, ...options });
  expect(toRgba(await fromPng(await readFile(out)))).toEqual(toRgba(images));
  return run.notes.filter((note) => note.includes("resized"));
}

// The model draws 12 x 8 pixels, in multiples of 2.
it.each([
  ["photo.jpg", "40x24", { width: 12, height: 8 }],
  ["photo-turned-6.jpg", "24x40", { width: 8, height: 12 }],
  ["photo-alpha.webp", "40x24", { width: 12, height: 8 }],
  ["grey-1.png", "13x11", { width: 10, height: 10 }],
  ["palette-4-alpha-interlaced.png", "13x11", { width: 10, height: 10 }],
])("--image %s is drawn in its proportions, with the model's number of pixels", async (name, own, size) => {
  const image = resizePicture(await readPicture(file(name)), size);
  const notes = await expectDrawn(["--image", file(name)], { image });
  expect(notes).toEqual([`sdxs: --image ${file(name)}: ${own}, resized to ${size.width}x${size.height}`]);
});

it.each([
  [["--size", "16x8"], { width: 16, height: 8 }, "stretch"],
  [["--size", "16x8", "--resize", "crop"], { width: 16, height: 8 }, "crop"],
  [["--resize", "stretch"], { width: 12, height: 8 }, "stretch"],
  [["--resize", "crop"], { width: 12, height: 8 }, "crop"],
  [["--resize", "none"], { width: 12, height: 10 }, "stretch"], // of 13 x 11, as diffusers rounds it
] as const)("--image with %j is drawn in %j, by %s", async (args, size, mode) => {
  const image = resizePicture(await readPicture(file("rgb-8.png")), size, { mode });
  await expectDrawn(["--image", file("rgb-8.png"), "--strength", "0.5", ...args], { image, strength: 0.5 });
});

it("--control gives its proportions where there is no --image, and takes those of --image where there is one", async () => {
  const [photo, square] = [await readPicture(file("photo-turned-6.jpg")), await readPicture(file("rgba-8.png"))];
  const tall = { width: 8, height: 12 };
  const control = (picture: HostTensor): HostTensor =>
    new HostTensor(
      picture.shape,
      picture.data.map((value) => (value + 1) / 2),
    );
  await expectDrawn([...withNet, "--control", `${file("photo-turned-6.jpg")}=0.5`], {
    ...tall,
    controls: [{ image: control(resizePicture(photo, tall)), scale: 0.5 }],
  });
  await expectDrawn([...withNet, "--control", file("rgba-8.png"), "--image", file("photo-turned-6.jpg")], {
    image: resizePicture(photo, tall),
    controls: [{ image: control(resizePicture(square, tall)) }],
  });
});

it("--canny finds edges in the size that is drawn", async () => {
  const size = { width: 10, height: 10 };
  const edges = canny(resizePicture(await readPicture(file("rgb-8.png")), size));
  await expectDrawn([...withNet, "--canny", "--control", file("rgb-8.png")], { ...size, controls: [{ image: edges }] });
});

it("a file's name may hold an equals sign", async () => {
  const name = join(folder, "a=0.5");
  await copyFile(file("photo.jpg"), name);
  const image = resizePicture(await readPicture(name), { width: 12, height: 8 }, {});
  const control = new HostTensor(
    image.shape,
    image.data.map((value) => (value + 1) / 2),
  );
  await expectDrawn([...withNet, "--control", name], { controls: [{ image: control }] });
  await expectDrawn([...withNet, "--control", `${name}=0`], { controls: [{ image: control, scale: 0 }] });
});

it("says what --resize may be, and that the pipeline has no ControlNet", async () => {
  const image = file("photo.jpg");
  const mode = await sdxs(["generate", model, "--prompt", "red", "--image", image, "--resize", "fill"]);
  expect(mode).toMatchObject({ exitCode: 2, notes: [expect.stringContaining("--resize must be one of fit, stretch")] });
  const none = await sdxs(["generate", model, "--prompt", "red", "--control", image]);
  expect(none).toMatchObject({ exitCode: 2, notes: [expect.stringContaining("name one by --controlnet")] });
});
