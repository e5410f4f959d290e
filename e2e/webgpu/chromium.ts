import { build } from "esbuild";
import { existsSync, readFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { extname, join, normalize } from "node:path";
import { chromium } from "playwright-core";
import type { ConformanceResult } from "@sdxs/tensor/conformance";
import { root } from "../workspace.js";
import type { TestPage } from "./page.js";

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

const contentTypes: Readonly<Record<string, string>> = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".mjs": "text/javascript",
  ".wasm": "application/wasm",
};

/** Folders that the page may read, by the first part of their addresses. */
const folders: Readonly<Record<string, string>> = {
  "onnxruntime-web": join(root, "node_modules/onnxruntime-web/dist"),
  fixtures: join(root, "packages/tiny-unet/fixtures"),
};

/** The suites of page.ts, in a browser. */
export interface BrowserSuites {
  names(backend: string): Promise<readonly string[]>;
  run(backend: string, name: string): Promise<ConformanceResult>;
  close(): Promise<void>;
}

/** Bundles page.ts from sources and opens it in a new browser. */
export async function openBrowser(executablePath: string): Promise<BrowserSuites> {
  const bundle = await build({
    entryPoints: [join(root, "e2e/webgpu/page.ts")],
    bundle: true,
    format: "esm",
    platform: "browser",
    target: "es2022",
    write: false,
    logLevel: "error",
  });
  const server = await serve({
    "/": `<!doctype html><script type="module" src="/page.js"></script>`,
    "/page.js": bundle.outputFiles[0]?.text ?? "",
  });
  const browser = await chromium.launch({ executablePath, chromiumSandbox: false, args: chromiumArguments });
  const page = await browser.newPage();
  const { port } = server.address() as AddressInfo;
  await page.goto(`http://127.0.0.1:${port}/`);
  await page.waitForFunction("globalThis.page !== undefined");
  return {
    names: (backend) =>
      page.evaluate((name) => (globalThis as unknown as { readonly page: TestPage }).page.names(name), backend),
    run: (backend, name) =>
      page.evaluate(([on, one]) => (globalThis as unknown as { readonly page: TestPage }).page.run(on, one), [
        backend,
        name,
      ] as const),
    async close() {
      await browser.close();
      server.close();
    },
  };
}

async function serve(texts: Readonly<Record<string, string>>): Promise<Server> {
  const server = createServer(({ url = "/" }, response) => {
    const path = new URL(url, "http://127.0.0.1").pathname;
    const [, folder = "", ...rest] = path.split("/");
    const file = folders[folder] && join(folders[folder], normalize(`/${rest.join("/")}`));
    const body = texts[path] ?? (file && existsSync(file) ? readFileSync(file) : undefined);
    response.statusCode = body === undefined ? 404 : 200;
    response.setHeader(
      "content-type",
      contentTypes[path === "/" ? ".html" : extname(path)] ?? "application/octet-stream",
    );
    response.end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return server;
}
