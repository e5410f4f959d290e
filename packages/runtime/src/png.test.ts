import { decode, encode } from "fast-png";
import sharp from "sharp";
import { expect, it } from "vitest";
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

it.each([
  ["grey", { data: Uint8Array.of(0, 51), channels: 1 }, [-1, -0.6, -1, -0.6, -1, -0.6]],
  ["opacity", { data: Uint8Array.of(0, 255, 51, 0, 255, 0, 0, 255), channels: 4 }, [-1, 1, 1, -1, -0.6, -1]],
  [
    "16 bits",
    { data: Uint16Array.of(0, 65535, 13107, 65535, 0, 0), channels: 3, depth: 16 as const },
    [-1, 1, 1, -1, -0.6, -1],
  ],
])("fromPng reads %s", async (_, png, expected) => {
  const image = await fromPng(encode({ width: 2, height: 1, ...png }));
  expect(image.shape).toEqual([1, 3, 1, 2]);
  image.data.forEach((value, i) => expect(value).toBeCloseTo(expected[i]!, 6));
});

it("fromPng reads palettes, as sharp writes them", async () => {
  const raw = Buffer.from([255, 0, 0, 0, 0, 255, 0, 0, 255, 255, 0, 0]);
  const file = await sharp(raw, { raw: { width: 2, height: 2, channels: 3 } })
    .png({ palette: true })
    .toBuffer();
  expect(decode(file).palette).toBeDefined();
  expect([...(await fromPng(file)).data]).toEqual([1, -1, -1, 1, -1, -1, -1, -1, -1, 1, 1, -1]);
});

it("fromPng says what is wrong with a file", async () => {
  const png = await toPng({ width: 5, height: 3, data: new Uint8ClampedArray(60) });
  for (const file of [Uint8Array.of(1, 2, 3), png.subarray(0, 50)]) {
    await expect(fromPng(file)).rejects.toMatchObject({ code: "MALFORMED_FILE" });
  }
});
