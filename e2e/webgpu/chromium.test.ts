import { afterAll, describe, expect, inject, test } from "vitest";
import { openBrowser } from "./chromium.js";
import { chromiumPath } from "./launch-chromium.js";
import { essential } from "./suite.js";

const path = chromiumPath();

if (path === undefined) {
  const reason = "no Chromium at /usr/bin/chromium: install it, or name one in SDXS_CHROMIUM";
  console.warn(`Nothing is tested in a browser: ${reason}.`);
  test.skip(`in Chromium (${reason})`);
} else {
  const browser = await openBrowser(path);
  afterAll(() => browser.close());

  for (const backend of ["onnx-wasm", "tfjs-webgpu", "webgpu", "onnx-webgpu"]) {
    const names = await browser.names(backend);
    describe(`${backend} in Chromium`, () => {
      test.each(inject("complete") ? names : essential(names))("%s", async (name) => {
        expect(await browser.run(backend, name)).toMatchObject({ ok: true, message: "" });
      });
    });
  }
}
