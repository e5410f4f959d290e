import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { largestDifference, pictureFile, pictureFiles, seenIn } from "./picture-files.test-support.js";
import { readPicture } from "./read-picture.js";

it.each(pictureFiles)("readPicture sees what %s shows", async (name) => {
  const [image, seen] = [await readPicture(pictureFile(name)), seenIn(name)];
  expect(image.shape).toEqual(seen.shape);
  // Of 16 bits the lower 8 are left out, from colours and from opacity.
  expect(largestDifference(image, seen)).toBeLessThan(name.includes("-16") ? 2 : 1e-4);
});

it("readPicture takes a path", async () => {
  const path = fileURLToPath(new URL("../../fixtures/pictures/photo.jpg", import.meta.url));
  expect(await readPicture(path)).toEqual(await readPicture(pictureFile("photo.jpg")));
});

it("readPicture says what is wrong with a file", async () => {
  await expect(readPicture("none.jpg")).rejects.toMatchObject({
    code: "MISSING_FILE",
    message: expect.stringContaining("none.jpg"),
  });
  const photo = pictureFile("photo.jpg");
  for (const bytes of [new TextEncoder().encode("{}"), photo.subarray(0, photo.length - 100)]) {
    await expect(readPicture(bytes)).rejects.toMatchObject({ code: "MALFORMED_FILE" });
  }
});
