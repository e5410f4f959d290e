import { copyFile, mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { emojiStyles } from "../../emoji-styles.js";
import { readEmojiPack } from "../../emoji-pack.js";
import { dataFolder, readOwnPack } from "./data.js";

describe("readEmojiPack", () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "emoji-pack-"));
    for (const name of ["emoji-64.json", "emoji-64.bin"]) {
      await copyFile(join(dataFolder, name), join(folder, name));
    }
  });
  afterEach(() => rm(folder, { recursive: true }));

  it("reads the recipe's pack: over 1,000 concepts, each in all four styles that every concept has", async () => {
    const { manifest, pictureFile } = await readOwnPack();
    expect(manifest.concepts.length).toBeGreaterThan(1000);
    expect(new Set(manifest.concepts.map(({ name }) => name)).size).toBe(manifest.concepts.length);
    for (const { pictures } of manifest.concepts) {
      for (const style of emojiStyles) if (style !== "noto-v1") expect(pictures[style]).toBeDefined();
    }
    // RIFF....WEBP: every range begins at a picture.
    for (const [offset, length] of manifest.concepts.flatMap(({ pictures }) => Object.values(pictures))) {
      const head = Buffer.from(pictureFile.subarray(offset, offset + 12)).toString("latin1");
      expect(head.startsWith("RIFF") && head.endsWith("WEBP")).toBe(true);
      expect(length).toBeGreaterThan(12);
    }
  });

  it("refuses a truncated picture file and names both sizes", async () => {
    await truncate(join(folder, "emoji-64.bin"), 1000);
    await expect(readEmojiPack(folder, "emoji-64")).rejects.toMatchObject({
      code: "MALFORMED_FILE",
      message: expect.stringMatching(/must have \d+ bytes, it has 1000/) as string,
    });
  });

  it("refuses a picture file with one altered byte", async () => {
    const bytes = await readFile(join(folder, "emoji-64.bin"));
    bytes[5000] = (bytes[5000] ?? 0) ^ 1;
    await writeFile(join(folder, "emoji-64.bin"), bytes);
    await expect(readEmojiPack(folder, "emoji-64")).rejects.toMatchObject({
      code: "MALFORMED_FILE",
      message: expect.stringContaining("SHA-256") as string,
    });
  });

  it("refuses a truncated manifest, another format, and a byte range beyond the file", async () => {
    const manifest = await readFile(join(folder, "emoji-64.json"), "utf8");
    const withManifest = async (text: string) => {
      await writeFile(join(folder, "emoji-64.json"), text);
      return readEmojiPack(folder, "emoji-64");
    };
    const malformed = (message: RegExp) => ({
      code: "MALFORMED_FILE",
      message: expect.stringMatching(message) as string,
    });
    await expect(withManifest(manifest.slice(0, 5000))).rejects.toMatchObject(malformed(/not JSON/));
    await expect(withManifest("null")).rejects.toMatchObject(malformed(/sdxs-emoji-pack/));
    await expect(withManifest(manifest.replace('"version":1', '"version":2'))).rejects.toMatchObject(
      malformed(/"version": 1/),
    );
    await expect(withManifest(manifest.replace(/"noto":\[\d+/, '"noto":[99999999'))).rejects.toMatchObject(
      malformed(/style "noto": .* got \[99999999,\d+\]/),
    );
  });

  it("says which file is missing", async () => {
    await rm(join(folder, "emoji-64.bin"));
    await expect(readEmojiPack(folder, "emoji-64")).rejects.toMatchObject({
      code: "MISSING_FILE",
      message: expect.stringContaining("emoji-64.bin") as string,
    });
  });
});
