import { build } from "esbuild";
import { existsSync, readFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { extname, join, normalize } from "node:path";
import type { Page } from "playwright-core";
import type { ConformanceResult } from "@sdxs/tensor/conformance";
import { root } from "../workspace.js";
import { launchChromium } from "./launch-chromium.js";
import type { TestPage } from "./page.js";

const contentTypes: Readonly<Record<string, string>> = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".mjs": "text/javascript",
  ".wasm": "application/wasm",
};

/** Its .wasm files. */
const onnxruntimeWeb = join(root, "node_modules/onnxruntime-web/dist");

/** A page in a browser of its own. */
export interface OpenPage {
  readonly page: Page;
  /** "GET /page.js" and so on, since it was opened. */
  readonly requests: readonly string[];
  close(): Promise<void>;
}

/**
 * Bundles scripts from sources, by their addresses, and opens a page of "/page.js" in a new browser. It is ready when the
 * script has set globalThis.page.
 */
export async function openPage(
  executablePath: string,
  scripts: Readonly<Record<`/${string}.js`, string>>,
  folders: Readonly<Record<string, string>>,
): Promise<OpenPage> {
  const texts: Record<string, string> = { "/": `<!doctype html><script type="module" src="/page.js"></script>` };
  for (const [address, source] of Object.entries(scripts)) {
    const bundle = await build({
      entryPoints: [join(root, "e2e/webgpu", source)],
      bundle: true,
      format: "esm",
      platform: "browser",
      target: "es2022",
      write: false,
      logLevel: "error",
    });
    texts[address] = bundle.outputFiles[0]?.text ?? "";
  }
  const requests: string[] = [];
  const server = await serve(texts, { ...folders, "onnxruntime-web": onnxruntimeWeb }, requests);
  const browser = await launchChromium(executablePath);
  const page = await browser.newPage();
  const { port } = server.address() as AddressInfo;
  await page.goto(`http://127.0.0.1:${port}/`);
  await page.waitForFunction("globalThis.page !== undefined");
  return {
    page,
    requests,
    async close() {
      await browser.close();
      server.close();
    },
  };
}

/** The suites of page.ts, in a browser. */
export interface BrowserSuites {
  names(backend: string): Promise<readonly string[]>;
  run(backend: string, name: string): Promise<ConformanceResult>;
  close(): Promise<void>;
}

/** Opens page.ts in a new browser. */
export async function openBrowser(executablePath: string): Promise<BrowserSuites> {
  const fixtures = join(root, "packages/tiny-unet/fixtures");
  const opened = await openPage(executablePath, { "/page.js": "page.ts" }, { fixtures });
  const { page } = opened;
  return {
    names: (backend) =>
      page.evaluate((name) => (globalThis as unknown as { readonly page: TestPage }).page.names(name), backend),
    run: (backend, name) =>
      page.evaluate(([on, one]) => (globalThis as unknown as { readonly page: TestPage }).page.run(on, one), [
        backend,
        name,
      ] as const),
    close: () => opened.close(),
  };
}

/** @param folders that the page may read, by the first part of their addresses */
async function serve(
  texts: Readonly<Record<string, string>>,
  folders: Readonly<Record<string, string>>,
  requests: string[],
): Promise<Server> {
  const server = createServer(({ url = "/", method }, response) => {
    const path = new URL(url, "http://127.0.0.1").pathname;
    requests.push(`${method} ${path}`);
    const [, folder = "", ...rest] = path.split("/");
    const file = folders[folder] && join(folders[folder], normalize(`/${rest.join("/")}`));
    const body = Buffer.from(texts[path] ?? (file && existsSync(file) ? readFileSync(file) : ""));
    response.statusCode = body.length === 0 ? 404 : 200;
    response.setHeader(
      "content-type",
      contentTypes[path === "/" ? ".html" : extname(path)] ?? "application/octet-stream",
    );
    response.setHeader("content-length", body.length);
    response.end(method === "HEAD" ? undefined : body);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return server;
}
