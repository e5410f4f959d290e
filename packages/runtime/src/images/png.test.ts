import { decode } from "fast-png";
import { expect, it } from "vitest";
import { largestDifference, pictureFile, pictureFiles, seenIn } from "./picture-files.test-support.js";
import { toRgba } from "./pictures.js";
import { fromPng, toPng } from "./png.js";

it("toPng writes 8 bits of red, green and blue", async () => {
  const data = Uint8ClampedArray.of(255, 0, 0, 255, 250, 10, 0, 255, 1, 2, 3, 255, 0, 0, 0, 255);
  const file = await toPng({ width: 2, height: 2, data });
  const { width, height, depth, channels, data: pixels } = decode(file);
  expect({ width, height, depth, channels }).toEqual({ width: 2, height: 2, depth: 8, channels: 3 });
  expect([...pixels]).toEqual([255, 0, 0, 250, 10, 0, 1, 2, 3, 0, 0, 0]);
});

it("fromPng reads what toPng wrote, to the byte", async () => {
  const data = Uint8ClampedArray.from({ length: 4 * 15 }, (_, i) => (i % 4 === 3 ? 255 : (37 * i) % 256));
  const image = await fromPng(await toPng({ width: 5, height: 3, data }));
  expect(image.shape).toEqual([1, 3, 3, 5]);
  expect(toRgba(image)[0]).toEqual({ width: 5, height: 3, data });
});

const pngs = pictureFiles.filter((name) => name.endsWith(".png"));
const refused = /-[124](-key|-alpha)?-interlaced/;

it.each(pngs.filter((name) => !refused.test(name)))("fromPng sees what %s shows", async (name) => {
  const [image, seen] = [await fromPng(pictureFile(name)), seenIn(name)];
  expect(image.shape).toEqual(seen.shape);
  expect(largestDifference(image, seen)).toBeLessThan(1e-4);
});

it.each(pngs.filter((name) => refused.test(name)))("fromPng refuses %s by name", async (name) => {
  await expect(fromPng(pictureFile(name))).rejects.toMatchObject({
    code: "UNSUPPORTED_CONFIG",
    message: expect.stringContaining("is interlaced and has"),
  });
});

it("fromPng says what is wrong with a file", async () => {
  const png = await toPng({ width: 5, height: 3, data: new Uint8ClampedArray(60) });
  const changed = png.map((byte, at) => (at === 45 ? byte ^ 1 : byte)); // in the values
  for (const file of [Uint8Array.of(), Uint8Array.of(1, 2, 3), png.subarray(0, 50), changed]) {
    await expect(fromPng(file)).rejects.toMatchObject({ code: "MALFORMED_FILE" });
  }
});
