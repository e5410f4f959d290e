import { HostTensor } from "@sdxs/tensor";
import sharp from "sharp";
import { describe, expect, it } from "vitest";
import { contactSheet } from "../../contact-sheet.js";

describe("contactSheet", () => {
  it("shows each picture in its colours, magnified, with dark letters below", async () => {
    // A red and a blue picture of 64x64.
    const images = new Float32Array(2 * 3 * 64 * 64).fill(-1);
    images.fill(1, 0, 64 * 64);
    images.fill(2, 5 * 64 * 64, 6 * 64 * 64);
    const png = await contactSheet(new HostTensor([2, 3, 64, 64], images), ["a red square", "a blue square"]);
    const { data, info } = await sharp(png).raw().toBuffer({ resolveWithObject: true });
    const pixel = (x: number, y: number) =>
      Array.from(data.subarray(3 * (y * info.width + x), 3 * (y * info.width + x) + 3));
    // Two pictures of 128 pixels and 3 margins of 8; one line of 14 pixels below.
    expect([info.width, info.height]).toEqual([2 * 128 + 3 * 8, 128 + 14 + 2 * 8]);
    expect(pixel(8, 8)).toEqual([255, 0, 0]);
    expect(pixel(8 + 127, 8 + 127)).toEqual([255, 0, 0]);
    expect(pixel(8 + 128 + 8, 8)).toEqual([0, 0, 255]);
    const label = Array.from({ length: 14 * 128 }, (_, index) =>
      pixel(8 + (index % 128), 136 + Math.floor(index / 128)),
    );
    expect(label.filter(([red]) => red !== undefined && red < 100).length).toBeGreaterThan(50);
  });

  it("breaks a long label into lines", async () => {
    const images = HostTensor.filled([1, 3, 8, 8], 0);
    const { height } = await sharp(await contactSheet(images, ["one two"], { magnification: 3 })).metadata();
    expect(height).toBe(24 + 2 * 14 + 2 * 8);
  });

  it("refuses images of another shape and a wrong number of labels", async () => {
    await expect(contactSheet(HostTensor.filled([1, 4, 8, 8], 0), ["a"])).rejects.toThrow(
      /\[count, 3, height, width\]/,
    );
    await expect(contactSheet(HostTensor.filled([2, 3, 8, 8], 0), ["a"])).rejects.toThrow(/expected 2 labels/);
  });
});
