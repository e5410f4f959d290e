/** `npm run -s bench:demo`: how long the demo's models take for an image, in Node and in the page in Chromium. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createPipeline } from "@sdxs/runtime";
import { loadPipelineFolder } from "@sdxs/runtime/node";
import { onnxBackend } from "@sdxs/tensor/onnx";
import * as ort from "onnxruntime-node";
import type { Browser } from "playwright-core";
import { build, preview } from "vite";
import { models } from "../../apps/demo/src/models.js";
import { Speed } from "../../apps/demo/src/speed.js";
import { chromiumPath, launchChromium } from "../../e2e/webgpu/launch-chromium.js";
import { machineLine } from "./machine.js";

type ModelName = keyof typeof models;

/** Seeds that are drawn; the page's row of other seeds adds six of the student's to each. */
const SEEDS = [11, 22, 33];

async function inNode(model: ModelName): Promise<string> {
  const { components } = await loadPipelineFolder(join("recipes/emoji", model), {
    only: ["unet", "vae", "text_encoder", "tokenizer", "scheduler"],
  });
  const pipeline = createPipeline({ components, backend: onnxBackend({ ort }), ...models[model] });
  await pipeline.generate("", { steps: 1 }); // compiles
  const speed = new Speed();
  for (const seed of SEEDS.flatMap((first) =>
    Array.from({ length: model === "student" ? 7 : 1 }, (_, i) => first + i),
  )) {
    const { times } = await pipeline.generate("a red apple", { seed });
    speed.add(times.textEncoder + times.unet + times.decoder);
  }
  await pipeline.dispose();
  return String(speed);
}

/** What the page says of one model, while the other one is not there. */
async function inPage(browser: Browser, address: string, model: ModelName, backend: string): Promise<string> {
  const page = await browser.newPage();
  page.setDefaultTimeout(600_000);
  const other = model === "student" ? "teacher" : "student";
  await page.route(`**/models/${other}/**`, (route) => route.abort());
  await page.goto(address);
  await page.check(`input[value=${backend}]`, { force: true });
  await page.fill("#prompt", "a red apple");
  for (const seed of SEEDS) {
    await page.fill("#seed", String(seed));
    await page.waitForSelector(
      model === "student"
        ? `#others li:last-child [aria-label="Seed ${seed + 6}"]`
        : `#teacher canvas[aria-label^="a red apple, seed ${seed},"]`,
    );
  }
  const speed = await page.textContent(`#${model} .speed`);
  await page.close();
  return speed ?? "";
}

const path = chromiumPath();
if (path === undefined)
  throw new Error("bench:demo needs a Chromium: at /usr/bin/chromium, or named by SDXS_CHROMIUM.");
const outDir = await mkdtemp(join(tmpdir(), "sdxs-demo-"));
const demo = { root: resolve("apps/demo"), logLevel: "error", build: { outDir } } as const;
await build(demo);
const server = await preview({ ...demo, preview: { port: 0 } });
const address = server.resolvedUrls!.local[0]!;
const browser = await launchChromium(path);
try {
  console.log(`${machineLine()}, Chromium ${browser.version()}\n`);
  const line = (...cells: readonly string[]) => console.log(`| ${cells.join(" | ")} |`);
  line("where", "student", "teacher");
  line("---", "---", "---");
  line("Node", await inNode("student"), await inNode("teacher"));
  const onWasm = (model: ModelName) => inPage(browser, address, model, "onnx");
  line("Chromium, WebAssembly", await onWasm("student"), await onWasm("teacher"));
  // Where a processor does the GPU's work, the teacher would take minutes.
  line("Chromium, WebGPU", await inPage(browser, address, "student", "webgpu"), "");
} finally {
  await browser.close();
  await server.close();
  await rm(outDir, { recursive: true });
}
