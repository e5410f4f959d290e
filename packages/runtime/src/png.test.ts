import { inflateSync } from "node:zlib";
import { expect, it } from "vitest";
import { toPng } from "./png.js";

it("toPng writes the picture of the PNG specification's chunks", async () => {
  const data = Uint8ClampedArray.of(255, 0, 0, 255, 250, 10, 0, 255, 1, 2, 3, 255, 0, 0, 0, 255);
  const file = Buffer.from(await toPng({ width: 2, height: 2, data }));
  expect(file.subarray(0, 8)).toEqual(Buffer.from("\x89PNG\r\n\x1a\n", "latin1"));
  expect(file.subarray(8, 29)).toEqual(
    Buffer.from("0000000d" + "49484452" + "00000002" + "00000002" + "0802000000", "hex"), // IHDR, 2 x 2, 8 bits of RGB
  );
  const pixels = inflateSync(file.subarray(41, -16));
  expect(file.readUInt32BE(33)).toBe(file.length - 41 - 16);
  expect(file.toString("latin1", 37, 41)).toBe("IDAT");
  expect([...pixels]).toEqual([1, 255, 0, 0, 251, 10, 0, 1, 1, 2, 3, 255, 254, 253]); // differences to the left
  // The end of every PNG file.
  expect(file.subarray(-12)).toEqual(Buffer.from("0000000049454e44ae426082", "hex"));
});
