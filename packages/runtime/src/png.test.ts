import { decode } from "fast-png";
import { expect, it } from "vitest";
import { toPng } from "./png.js";

it("toPng writes 8 bits of red, green and blue", async () => {
  const data = Uint8ClampedArray.of(255, 0, 0, 255, 250, 10, 0, 255, 1, 2, 3, 255, 0, 0, 0, 255);
  const file = await toPng({ width: 2, height: 2, data });
  const { width, height, depth, channels, data: pixels } = decode(file);
  expect({ width, height, depth, channels }).toEqual({ width: 2, height: 2, depth: 8, channels: 3 });
  expect([...pixels]).toEqual([255, 0, 0, 250, 10, 0, 1, 2, 3, 0, 0, 0]);
});
