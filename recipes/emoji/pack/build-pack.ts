/**
 * Rebuilds recipes/emoji/data from the npm packages of this folder: the pictures, their manifest, the tokenizer and
 * the licences. The same packages on the same platform give the same bytes.
 */
import { createHash } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import { emojiStyles, type EmojiStyle } from "../src/captions.js";
import type { ByteRange, EmojiConcept, EmojiManifest } from "../src/emoji-pack.js";
import { collectConcepts } from "./concepts.js";
import { writeLicences } from "./licences.js";
import { pictureSize, rasterise } from "./rasterise.js";
import { writeTokenizer } from "./tokenizer.js";

const dataFolder = new URL("../data/", import.meta.url);
await mkdir(dataFolder, { recursive: true });

const files: Buffer[] = [];
const concepts: EmojiConcept[] = [];
let offset = 0;
for (const { drawings, ...concept } of collectConcepts()) {
  const pictures: Partial<Record<EmojiStyle, ByteRange>> = {};
  for (const style of emojiStyles) {
    const drawing = drawings[style];
    if (drawing === undefined) continue;
    const file = await rasterise(drawing, style);
    pictures[style] = [offset, file.length];
    offset += file.length;
    files.push(file);
  }
  concepts.push({ ...concept, pictures });
}

const pictureFile = Buffer.concat(files);
const manifest: EmojiManifest = {
  format: "sdxs-emoji-pack",
  version: 1,
  pictureSize,
  pictureFileBytes: pictureFile.length,
  pictureFileSha256: createHash("sha256").update(pictureFile).digest("hex"),
  concepts,
};
// One concept a line: a change of the pack shows as a readable difference.
const { concepts: list, ...head } = manifest;
const lines = list.map((concept) => JSON.stringify(concept)).join(",\n");
const manifestText = `${JSON.stringify(head).slice(0, -1)},"concepts":[\n${lines}\n]}\n`;
await writeFile(new URL("emoji-64.bin", dataFolder), pictureFile);
await writeFile(new URL("emoji-64.json", dataFolder), manifestText);
console.log(`${concepts.length} concepts, ${files.length} pictures, ${pictureFile.length} bytes`);

await writeTokenizer(concepts, new URL("tokenizer/", dataFolder));
await writeLicences(new URL("LICENSES.md", dataFolder));
