import { existsSync } from "node:fs";
import { globals } from "webgpu";

/** The software renderer that Debian's Chromium brings, for machines without a GPU. */
const softwareRenderer = "/usr/lib/chromium/vk_swiftshader_icd.json";

/** WebGPU's classes and constants as Node's globals, and a renderer where there is no GPU. */
export function prepareDawn(): void {
  if (existsSync(softwareRenderer)) process.env["VK_DRIVER_FILES"] ??= softwareRenderer;
  Object.assign(globalThis, globals);
}
