import { readFileSync } from "node:fs";
import type { HostTensor } from "@sdxs/tensor";
import { expect, it } from "vitest";
import { kindsOfFiles, largestDifference, pictureFile, pictureFiles, seenIn } from "./picture-files.test-support.js";
import { fromPng } from "./png.js";
import { readPicture } from "./read-picture.js";

const page = readFileSync(new URL("../../../../docs/compatibility.md", import.meta.url), "utf8");

/** "exact", "within N" of 255 steps, or "refused", of the worst of these files. */
async function worst(files: readonly string[], read: (file: Uint8Array) => Promise<HostTensor>): Promise<string> {
  let difference = 0;
  for (const name of files) {
    const image = await read(pictureFile(name)).catch(() => undefined);
    if (image === undefined) return "refused";
    expect(image.shape).toEqual(seenIn(name).shape);
    difference = Math.max(difference, largestDifference(image, seenIn(name)));
  }
  return difference < 1e-4 ? "exact" : `within ${Math.ceil(difference)}`;
}

it.each(kindsOfFiles)("docs/compatibility.md tells of $kind what is true", async ({ kind, files }) => {
  expect(files).not.toEqual([]);
  const cells = page
    .split("\n")
    .find((line) => line.startsWith(`| ${kind} `))
    ?.split("|")
    .map((cell) => cell.trim());
  expect([cells?.[2], cells?.[4]]).toEqual([await worst(files, readPicture), await worst(files, fromPng)]);
});

it("every file is of a kind, and every row of the page is a kind", () => {
  const known = new Set(kindsOfFiles.flatMap(({ files }) => files));
  expect(pictureFiles.filter((name) => !known.has(name))).toEqual([]);
  const rows = page.split("\n").flatMap((line) => /^\| ((?:PNG|JPEG|WebP), .*?) *\|/.exec(line)?.[1] ?? []);
  expect(rows).toEqual(kindsOfFiles.map(({ kind }) => kind));
});
