import { readFileSync } from "node:fs";
import { join } from "node:path";
import { HostTensor } from "@sdxs/tensor";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  kindsOfFiles,
  largestDifference,
  seenIn,
} from "../../packages/runtime/src/images/picture-files.test-support.js";
import { root } from "../workspace.js";
import { openPage, type OpenPage } from "./chromium.js";
import { chromiumPath } from "./launch-chromium.js";
import type { PicturesPage } from "./pictures-page.js";

const path = chromiumPath();
const page = readFileSync(join(root, "docs/compatibility.md"), "utf8");

// chromium.test.ts says why.
describe.skipIf(path === undefined)("fromImageSource in Chromium", () => {
  let browser: OpenPage;
  beforeAll(async () => {
    const pictures = join(root, "packages/runtime/fixtures/pictures");
    browser = await openPage(path ?? "", { "/page.js": "pictures-page.ts" }, { pictures });
  });
  afterAll(() => browser.close());

  const see = (name: string) =>
    browser.page.evaluate((given) => (globalThis as unknown as { page: PicturesPage }).page.see(given), name);

  test.each(kindsOfFiles)("sees what $kind shows, as docs/compatibility.md says", async ({ kind, files }) => {
    const line = page.split("\n").find((row) => row.startsWith(`| ${kind} `));
    let worst = 0;
    for (const name of files) {
      const { shape, pixels } = await see(name);
      expect(shape).toEqual(seenIn(name).shape);
      const image = new HostTensor(shape, Float32Array.from(pixels));
      worst = Math.max(worst, largestDifference(image, seenIn(name)));
    }
    // A canvas holds bytes: 16 bits lose the lower 8, and opacity is blended in whole steps.
    expect(line?.split("|")[3]?.trim()).toBe(worst < 1e-4 ? "exact" : `within ${Math.ceil(worst)}`);
  });

  test("refuses what is no picture", async () => {
    const refusal = await browser.page.evaluate(() =>
      (globalThis as unknown as { page: PicturesPage }).page.refusal("{}"),
    );
    expect(refusal).toEqual(["INVALID_ARGUMENT", expect.stringContaining("the browser cannot draw this")]);
  });
});
