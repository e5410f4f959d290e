import { join } from "node:path";
import { HostTensor } from "@sdxs/tensor";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { largestDifference, pictureFiles, seenIn } from "../../packages/runtime/src/picture-files.test-support.js";
import { root } from "../workspace.js";
import { openPage, type OpenPage } from "./chromium.js";
import { chromiumPath } from "./launch-chromium.js";
import type { PicturesPage } from "./pictures-page.js";

const path = chromiumPath();

// chromium.test.ts says why.
describe.skipIf(path === undefined)("fromImageSource in Chromium", () => {
  let browser: OpenPage;
  beforeAll(async () => {
    const pictures = join(root, "packages/runtime/fixtures/pictures");
    browser = await openPage(path ?? "", { "/page.js": "pictures-page.ts" }, { pictures });
  });
  afterAll(() => browser.close());

  test.each(pictureFiles)("sees what %s shows", async (name) => {
    const { shape, pixels } = await browser.page.evaluate(
      (given) => (globalThis as unknown as { page: PicturesPage }).page.see(given),
      name,
    );
    const seen = seenIn(name);
    expect(shape).toEqual(seen.shape);
    const image = new HostTensor(shape, Float32Array.from(pixels));
    // A canvas holds bytes: 16 bits lose the lower 8, and opacity is blended in whole steps.
    expect(largestDifference(image, seen)).toBeLessThan(2);
  });

  test("refuses what is no picture", async () => {
    const refusal = await browser.page.evaluate(() =>
      (globalThis as unknown as { page: PicturesPage }).page.refusal("{}"),
    );
    expect(refusal).toEqual(["INVALID_ARGUMENT", expect.stringContaining("the browser cannot draw this")]);
  });
});
