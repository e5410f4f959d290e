import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as ort from "onnxruntime-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createPipeline } from "@sdxs/runtime";
import { savePipelineFolder } from "@sdxs/runtime/node";
import { onnxBackend } from "@sdxs/tensor/onnx";
import { components } from "../../packages/runtime/src/pipeline/pipeline-case.test-support.js";
import { openPage, type OpenPage } from "./chromium.js";
import { chromiumPath } from "./launch-chromium.js";
import type { PipelinePage } from "./pipeline-page.js";

const path = chromiumPath();

// chromium.test.ts says why.
describe.skipIf(path === undefined)("a pipeline in Chromium", () => {
  const folder = mkdtempSync(join(tmpdir(), "sdxs-page-"));
  let browser: OpenPage;
  let expected: Float32Array;
  beforeAll(async () => {
    await savePipelineFolder(folder, { components });
    const pipeline = createPipeline({ components, backend: onnxBackend({ ort, threads: 1 }) });
    expected = (await pipeline.generate("red", { seed: 1 })).images.data as Float32Array;
    const scripts = {
      "/page.js": "pipeline-page.ts",
      "/worker.js": "pipeline-worker.ts",
      "/stream-worker.js": "stream-worker.ts",
    } as const;
    browser = await openPage(path ?? "", scripts, { pipeline: folder });
  });
  afterAll(async () => {
    await browser.close();
    rmSync(folder, { recursive: true });
  });

  const draw = (...wanted: Parameters<PipelinePage["draw"]>) =>
    browser.page.evaluate((given) => (globalThis as unknown as { page: PipelinePage }).page.draw(...given), wanted);
  const fetched = (): string[] => browser.requests.filter((request) => request.startsWith("GET /pipeline"));
  /** @param tolerance default: GPUs add in another order */
  function expectClose(pixels: readonly number[], tolerance = 1e-3): void {
    expect(pixels).toHaveLength(expected.length);
    const differences = pixels.map((value, i) => Math.abs(value - expected[i]!));
    expect(Math.max(...differences)).toBeLessThan(tolerance);
  }

  test("comes from the server, chooses WebAssembly before an emulated GPU, and gives bitmaps and PNG files", async () => {
    const { reason, pixels, sizes } = await draw();
    expect(reason).toMatch(/^WebAssembly by onnxruntime\. No WebGPU by onnxruntime: it is only emulated here/);
    expectClose(pixels);
    expect(sizes).toEqual([
      [12, 8],
      [12, 8],
    ]);
    expect(fetched()).not.toEqual([]);
  });

  test("comes from the browser's cache the second time, and draws on WebGPU", async () => {
    const before = fetched();
    const { reason, pixels } = await draw("webgpu");
    expect(fetched()).toEqual(before);
    expect(reason).toBe("WebGPU by onnxruntime.");
    expectClose(pixels);
  });

  test("draws on WebGPU by kernels written for it", async () => {
    const { reason, pixels } = await draw("webgpu", "float32", true);
    expect(reason).toBe("WebGPU.");
    expectClose(pixels);
  });

  test("draws on WebGPU in float16, or says that this GPU does not compute in it", async () => {
    const drawn = await draw("webgpu", "float16").catch(String);
    if (typeof drawn === "string") expect(drawn).toContain(`does not compute in float16 (WebGPU's "shader-f16")`);
    else expectClose(drawn.pixels, 0.03);
  });

  test("draws in a worker", async () => {
    const { pixels, progress } = await browser.page.evaluate(() =>
      (globalThis as unknown as { page: PipelinePage }).page.drawInWorker(),
    );
    expectClose(pixels);
    expect(progress).toBe(1);
  });

  test("draws the newest of 46 requests that reach a worker at once, and at most two before it", async () => {
    const drawn = await browser.page.evaluate(() =>
      (globalThis as unknown as { page: PipelinePage }).page.drawBurst(46),
    );
    expect(drawn.at(-1)).toBe("prompt 45");
    expect(drawn.length).toBeLessThanOrEqual(3);
  });
});
