import { existsSync } from "node:fs";
import { chromium, type Browser } from "playwright-core";

/** Where a Chromium is: the variable SDXS_CHROMIUM, or Debian's place. Undefined where there is none. */
export function chromiumPath(): string | undefined {
  return [process.env["SDXS_CHROMIUM"], "/usr/bin/chromium"].find((path) => path !== undefined && existsSync(path));
}

/** WebGPU without a GPU, on the software renderer that Chromium brings; and no traffic of its own. */
const chromiumArguments = [
  "--enable-unsafe-webgpu",
  "--use-webgpu-adapter=swiftshader",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--disable-quic",
];

/** Opens a Chromium without a window. */
export function launchChromium(executablePath: string): Promise<Browser> {
  return chromium.launch({ executablePath, chromiumSandbox: false, args: chromiumArguments });
}
