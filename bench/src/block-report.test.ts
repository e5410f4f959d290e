import { readFile } from "node:fs/promises";
import { parseUNetConfig, publishedUNets } from "@sdxs/tiny-unet";
import { describe, expect, it } from "vitest";
import { pageWithFigures, trainedSize } from "./block-report.js";

const page = await readFile(new URL("../../docs/block-removal.md", import.meta.url), "utf8");

/** The cells of the first row that begins with this one. */
const row = (first: string): string[] =>
  page
    .split("\n")
    .map((line) => line.split("|").map((cell) => cell.trim()))
    .find((cells) => cells[1] === first)!
    .slice(2, -1);

describe("docs/block-removal.md", () => {
  it("shows what npm run table:blocks -- --write counts", async () => {
    expect(await pageWithFigures(page)).toBe(page);
  });

  it("has the paper's sizes: U-Nets of 319 M and 0.74 B, and a decoder of 1.2 M parameters", () => {
    const millions = (model: string) => Number(row(model).at(-2));
    expect(Math.round(millions("sdxs-512"))).toBe(319);
    expect(Math.floor(millions("sdxs-1024"))).toBe(745); // "0.74 B": the paper cuts off
    expect(millions("AutoencoderTiny").toFixed(1)).toBe("1.2");
  });
});

describe("trainedSize", () => {
  it("is the configuration's sample_size, one number or height and width", () => {
    expect(trainedSize(publishedUNets.sdxl)).toEqual({ height: 128, width: 128 });
    expect(trainedSize(parseUNetConfig({ sample_size: [96, 64] }))).toEqual({ height: 96, width: 64 });
    expect(trainedSize(parseUNetConfig({}))).toBeUndefined();
  });
});
