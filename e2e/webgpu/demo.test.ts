import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as ort from "onnxruntime-node";
import type { Page } from "playwright-core";
import { build, preview } from "vite";
import { afterAll, describe, expect, inject, test } from "vitest";
import { readLora } from "@sdxs/lora";
import { createPipeline, toRgba, type GenerateOptions } from "@sdxs/runtime";
import { loadModel, loadPipelineFolder } from "@sdxs/runtime/node";
import { HostTensor } from "@sdxs/tensor";
import { readSafetensorsFile } from "@sdxs/tensor/node";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { models } from "../../apps/demo/src/models.js";
import { root } from "../workspace.js";
import { chromiumPath, launchChromium } from "./launch-chromium.js";

const path = chromiumPath();
const backend = onnxBackend({ ort });
/** The page's prompt at first. */
const first = "a rocket, flat style, on a purple background";

if (path === undefined) {
  test.skip("the demo (no Chromium, see chromium.test.ts)");
} else {
  const outDir = await mkdtemp(join(tmpdir(), "sdxs-demo-"));
  const demo = { root: join(root, "apps/demo"), logLevel: "error", build: { outDir } } as const;
  await build(demo);
  const server = await preview({ ...demo, preview: { port: 0 } });
  const address = server.resolvedUrls!.local[0]!;
  const browser = await launchChromium(path);
  afterAll(async () => {
    await browser.close();
    await server.close();
    await rm(outDir, { recursive: true });
  });

  /** The page with whatever `prepare` changes, and what it complains of. */
  const open = async (prepare: (page: Page) => Promise<unknown> = async () => undefined) => {
    const page = await browser.newPage({ viewport: { width: 320, height: 700 } });
    page.setDefaultTimeout(120_000); // for a busy machine
    const complaints: string[] = [];
    page.on("pageerror", ({ message }) => complaints.push(message));
    page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
    await prepare(page);
    await page.goto(address);
    return { page, complaints };
  };

  describe("the demo in Chromium", () => {
    test("draws what Node draws, the newest prompt, until it is stopped, without a leak", async () => {
      const { page, complaints } = await open((page) => inWorkers(page, memoryProbe));
      await drawn(page, "student", first, 1);
      expect(psnr(await pixels(page, "student"), await nodePixels("student", first, 1))).toBeGreaterThan(40);
      expect(await page.textContent("#reason")).toMatch(/^WebAssembly by onnxruntime\. No WebGPU: /);
      expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(320);

      // Keys come faster than pictures.
      const typed = "a penguin, noto style, on an orange background";
      await page.fill("#prompt", "");
      await page.locator("#prompt").pressSequentially(typed);
      await drawn(page, "student", typed, 1);
      expect(psnr(await pixels(page, "student"), await nodePixels("student", typed, 1))).toBeGreaterThan(40);

      await page.waitForFunction(() => document.querySelector("#teacher progress")!.getAttribute("value") !== "0");
      await page.click("#stop");
      expect(await page.textContent("#teacher .message")).toBe("Stopped.");
      await page.fill("#seed", "2");
      await drawn(page, "teacher", typed, 2);
      expect(psnr(await pixels(page, "teacher"), await nodePixels("teacher", typed, 2))).toBeGreaterThan(40);

      await page.fill("#prompt", "a red aple ");
      await page.click("#hint button");
      await drawn(page, "student", "a red apple ", 2);

      // Each seed comes with six others.
      const level = await memory(page);
      expect(level).toBeGreaterThan(0);
      for (let seed = 100; seed < 800; seed += 100) {
        await page.fill("#seed", String(seed));
        await page.waitForSelector(`#others li:last-child [aria-label="Seed ${seed + 6}"]`);
      }
      expect(await memory(page)).toBe(level);

      const download = page.waitForEvent("download");
      await page.evaluate(() => {
        const dataTransfer = new DataTransfer();
        const drag = (selector: string, type: string) =>
          document.querySelector(selector)!.dispatchEvent(new DragEvent(type, { dataTransfer, bubbles: true }));
        drag("#student canvas", "dragstart");
        drag("#save button", "drop");
      });
      expect((await download).suggestedFilename()).toBe("a-red-apple-seed-700.png");
      expect(complaints).toEqual([]);
      await page.close();
    });

    test("follows a sketch, and takes a style, as Node does", async () => {
      const { page, complaints } = await open((page) => page.route("**/models/teacher/**", (route) => route.abort()));
      await drawn(page, "student", first, 1);
      await page.click("#trace");
      await drawn(page, "student", first, 1, "after the sketch, ");
      const lines = (await pixels(page, "sketch")).filter((_, i) => i % 4 === 0).map((value) => value / 255);
      expect(lines.filter((value) => value === 1).length).toBeGreaterThan(50);
      const controls = [{ image: new HostTensor([1, 3, 64, 64], Float32Array.from([...lines, ...lines, ...lines])) }];
      const guidedPixels = await nodePixels("student", first, 1, { controls });
      expect(psnr(await pixels(page, "student"), guidedPixels)).toBeGreaterThan(40);

      await page.check("input[value='3d']", { force: true });
      await drawn(page, "student", first, 1, "after the sketch, in the style 3d, ");
      const tensors = await readSafetensorsFile(join(root, "recipes/emoji/loras/lora-3d.safetensors"));
      const { loras } = readLora(tensors, { unet: (await studentUNet()).params });
      const styledPixels = await nodePixels("student", first, 1, { controls, loras: [loras] });
      expect(psnr(await pixels(page, "student"), styledPixels)).toBeGreaterThan(40);

      await page.click("#clear");
      await drawn(page, "student", first, 1, "in the style 3d, ");
      await page.locator("#sketch canvas").click({ position: { x: 60, y: 60 } });
      await drawn(page, "student", first, 1, "after the sketch, in the style 3d, ");
      expect(complaints.filter((text) => !text.includes("ERR_FAILED"))).toEqual([]);
      await page.close();
    });

    test("says what is missing, and tries again", async () => {
      const { page } = await open((page) =>
        page.route("**/models/student/unet/*.safetensors", (route) => route.abort()),
      );
      await page.waitForSelector("#student .retry:visible");
      expect(await page.textContent("#student .message")).toMatch(
        /^The student failed\. [^]*Cannot reach .*models\/student\/unet/,
      );
      await page.unrouteAll();
      await page.click("#student .retry");
      await drawn(page, "student", first, 1);
      await page.close();
    });

    test("computes without a GPU that is lost at once, and says so", async () => {
      const { page, complaints } = await open((page) => inWorkers(page, losingDevices));
      await page.check("input[value=webgpu]", { force: true });
      await drawn(page, "student", first, 1);
      // Lost while it is tried out, or once it computes.
      expect(await page.textContent("#reason")).toMatch(
        /^WebAssembly by onnxruntime\. (No WebGPU .* was lost|The graphics processor was lost twice\.)/,
      );
      expect(await page.isChecked("input[value=onnx]")).toBe(true);
      expect(complaints).toEqual([]);
      await page.close();
    });

    test.runIf(inject("complete"))("draws what Node draws on WebGPU, and again after its GPU was lost", async () => {
      const { page, complaints } = await open((page) =>
        Promise.all([inWorkers(page, keptDevices), page.route("**/models/teacher/**", (route) => route.abort())]),
      );
      await page.check("input[value=webgpu]", { force: true });
      await page.waitForFunction(() => document.querySelector("#reason")!.textContent === "WebGPU.");
      await page.fill("#seed", "3");
      await drawn(page, "student", first, 3);
      expect(psnr(await pixels(page, "student"), await nodePixels("student", first, 3))).toBeGreaterThan(40);
      for (const worker of page.workers()) {
        await worker.evaluate(() => (self as unknown as { device?: GPUDevice }).device?.destroy());
      }
      await page.fill("#seed", "4");
      await drawn(page, "student", first, 4);
      expect(await page.textContent("#reason")).toMatch(/was lost and has been started again/);
      expect(complaints.filter((text) => !text.includes("ERR_FAILED"))).toEqual([]);
      await page.close();
    });
  });
}

/** Waits for a model's picture of a prompt and a seed, and of guides as the page describes them. */
async function drawn(page: Page, model: keyof typeof models, prompt: string, seed: number, guides = ""): Promise<void> {
  await page.waitForSelector(`#${model} canvas[aria-label="${prompt}, seed ${seed}, ${guides}drawn by the ${model}"]`);
}

function pixels(page: Page, figure: keyof typeof models | "sketch"): Promise<number[]> {
  return page.evaluate((name) => {
    const canvas = document.querySelector<HTMLCanvasElement>(`#${name} canvas`)!;
    return [...canvas.getContext("2d")!.getImageData(0, 0, canvas.width, canvas.height).data];
  }, figure);
}

const studentUNet = () => loadModel(join(root, "recipes/emoji/student/unet"), { className: "UNet2DConditionModel" });

async function nodePixels(
  model: keyof typeof models,
  prompt: string,
  seed: number,
  guides: Pick<GenerateOptions, "controls" | "loras"> = {},
): Promise<Uint8ClampedArray> {
  const { components } = await loadPipelineFolder(join(root, "recipes/emoji", model), {
    only: ["unet", "vae", "text_encoder", "tokenizer", "scheduler"],
  });
  const controlNet = join(root, "recipes/emoji/controlnet-edges");
  const added = guides.controls && { controlnet: [await loadModel(controlNet, { className: "ControlNetModel" })] };
  const pipeline = createPipeline({ components: { ...components, ...added }, backend, ...models[model] });
  const { images } = await pipeline.generate(prompt, { seed, ...guides });
  await pipeline.dispose();
  return toRgba(images)[0]!.data;
}

/** In dB, of bytes. */
function psnr(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  const squares = Array.from(actual, (value, i) => (value - expected[i]!) ** 2);
  return 10 * Math.log10(255 ** 2 / (squares.reduce((sum, value) => sum + value, 0) / squares.length));
}

/** Lets the workers begin with some code of the test's. */
async function inWorkers(page: Page, code: string): Promise<void> {
  await page.route("**/model-worker-*.js", async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, body: `${code}\n${await response.text()}` });
  });
}

const memoryProbe = `
  self.memories = [];
  WebAssembly.Memory = new Proxy(WebAssembly.Memory, {
    construct(...given) {
      const memory = Reflect.construct(...given);
      self.memories.push(memory);
      return memory;
    },
  });`;

/** Bytes of WebAssembly's memory, which never shrinks, in all workers. */
async function memory(page: Page): Promise<number> {
  const sizes = await Promise.all(
    page.workers().map((worker) =>
      worker.evaluate(() => {
        const { memories } = self as unknown as { memories: WebAssembly.Memory[] };
        return memories.reduce((sum, { buffer }) => sum + buffer.byteLength, 0);
      }),
    ),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}

const keptDevices = `
  const requestDevice = GPUAdapter.prototype.requestDevice;
  GPUAdapter.prototype.requestDevice = async function (...given) {
    return (self.device = await requestDevice.apply(this, given));
  };`;

const losingDevices = `
  ${keptDevices}
  setInterval(() => self.device?.destroy(), 50);`;
