/**
 * Rebuilds recipes/emoji/data and recipes/scenes/data from the npm packages of this folder: the pictures, their manifests,
 * the emoji recipe's tokenizer and the licences. The same packages on the same platform give the same bytes.
 */
import { createHash } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import { emojiStyles, type EmojiStyle } from "../../emoji-styles.js";
import type { ByteRange, EmojiConcept, EmojiManifest } from "../../emoji-pack.js";
import { things } from "../../scenes/src/things.js";
import { collectConcepts, type ConceptSource } from "./concepts.js";
import { writeLicences } from "./licences.js";
import { rasterise } from "./rasterise.js";
import { writeEmojiTokenizer } from "./tokenizer.js";

const concepts = collectConcepts();
const emojiFolder = new URL("../data/", import.meta.url);
const scenesFolder = new URL("../../scenes/data/", import.meta.url);

const manifest = await writePictures(concepts, 64, emojiFolder, "emoji-64");
await writeEmojiTokenizer(manifest.concepts, new URL("tokenizer/", emojiFolder));
await writeLicences(new URL("LICENSES.md", emojiFolder), "emoji-64", 64);

const inScenes = concepts.filter(({ name }) => things.has(name));
await writePictures(inScenes, 128, scenesFolder, "emoji-128");
await writeLicences(new URL("LICENSES.md", scenesFolder), "emoji-128", 128);

/** Writes the concepts' pictures and their manifest into `NAME.bin` and `NAME.json`. */
async function writePictures(
  sources: readonly ConceptSource[],
  pictureSize: number,
  folder: URL,
  name: string,
): Promise<EmojiManifest> {
  const files: Buffer[] = [];
  const packed: EmojiConcept[] = [];
  let offset = 0;
  for (const { drawings, ...concept } of sources) {
    const pictures: Partial<Record<EmojiStyle, ByteRange>> = {};
    for (const style of emojiStyles) {
      const drawing = drawings[style];
      if (drawing === undefined) continue;
      const file = await rasterise(drawing, style, pictureSize);
      pictures[style] = [offset, file.length];
      offset += file.length;
      files.push(file);
    }
    packed.push({ ...concept, pictures });
  }

  const pictureFile = Buffer.concat(files);
  const manifest: EmojiManifest = {
    format: "sdxs-emoji-pack",
    version: 1,
    pictureSize,
    pictureFileBytes: pictureFile.length,
    pictureFileSha256: createHash("sha256").update(pictureFile).digest("hex"),
    concepts: packed,
  };
  // One concept a line: a change of the pack shows as a readable difference.
  const { concepts: list, ...head } = manifest;
  const lines = list.map((concept) => JSON.stringify(concept)).join(",\n");
  await mkdir(folder, { recursive: true });
  await writeFile(new URL(`${name}.bin`, folder), pictureFile);
  await writeFile(new URL(`${name}.json`, folder), `${JSON.stringify(head).slice(0, -1)},"concepts":[\n${lines}\n]}\n`);
  console.log(`${name}: ${packed.length} concepts, ${files.length} pictures, ${pictureFile.length} bytes`);
  return manifest;
}
