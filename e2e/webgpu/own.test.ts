import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { create, globals } from "webgpu";
import { requestGpuDevice, webgpuBackend } from "@sdxs/tensor/webgpu";
import { root } from "../workspace.js";
import { essential, suite } from "./suite.js";

const softwareRenderer = "/usr/lib/chromium/vk_swiftshader_icd.json";
if (existsSync(softwareRenderer)) process.env["VK_DRIVER_FILES"] ??= softwareRenderer;
Object.assign(globalThis, globals);
const gpu = create([]);
let device: GPUDevice;
const readFixture = async (path: string) =>
  new Uint8Array(await readFile(join(root, "packages/tiny-unet/fixtures", path)));
const { names, run } = suite(readFixture, {
  start: async () => webgpuBackend({ device: (device = await requestGpuDevice(gpu)) }),
  device: async () => device,
});
describe("own", () => {
  test.each(process.env["ALL"] ? names : essential(names))("%s", async (one) => {
    expect(await run(one)).toMatchObject({ ok: true, message: "" });
  });
});
