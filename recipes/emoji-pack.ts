import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { MalformedFileError, SdxsError } from "@sdxs/tensor";
import { emojiStyles, type EmojiStyle } from "./emoji-styles.js";

/** Where a picture's WebP file lies in the picture file: its first byte and its number of bytes. */
export type ByteRange = readonly [offset: number, length: number];

export interface EmojiConcept {
  /** Unique, lower case: "red apple". */
  readonly name: string;
  /** The name with its article, if it takes one: "a red apple". */
  readonly subject: string;
  /** Unicode's group: "food-drink". */
  readonly group: string;
  /** Related single words, most related first: ["apple", "fruit", ...]. */
  readonly keywords: readonly string[];
  readonly pictures: Readonly<Partial<Record<EmojiStyle, ByteRange>>>;
}

/** What `NAME.json` of a pack holds. */
export interface EmojiManifest {
  readonly format: "sdxs-emoji-pack";
  readonly version: 1;
  /** Height and width of each picture in pixels. */
  readonly pictureSize: number;
  /** Size and SHA-256 (hexadecimal) of the picture file `NAME.bin`: WebP files, one after the other. */
  readonly pictureFileBytes: number;
  readonly pictureFileSha256: string;
  readonly concepts: readonly EmojiConcept[];
}

export interface EmojiPack {
  readonly manifest: EmojiManifest;
  /** The WebP files, addressed by the manifest's byte ranges. */
  readonly pictureFile: Uint8Array;
}

/**
 * Reads packed pictures and checks them against their manifest.
 *
 * @param folder holds `NAME.json` and `NAME.bin`.
 * @throws SdxsError `MISSING_FILE`, MalformedFileError when a file is truncated, altered or not a pack.
 */
export async function readEmojiPack(folder: string, name: string): Promise<EmojiPack> {
  const manifestText = new TextDecoder().decode(await readDataFile(folder, `${name}.json`));
  const pictureFile = await readDataFile(folder, `${name}.bin`);
  let json: unknown;
  try {
    json = JSON.parse(manifestText);
  } catch (cause) {
    throw new MalformedFileError(`readEmojiPack: ${name}.json is not JSON. ${restore}`, { cause });
  }
  const manifest = checkManifest(json, name);
  if (pictureFile.length !== manifest.pictureFileBytes) {
    throw new MalformedFileError(
      `readEmojiPack: ${name}.bin must have ${manifest.pictureFileBytes} bytes, it has ${pictureFile.length}. ${restore}`,
    );
  }
  const sha256 = createHash("sha256").update(pictureFile).digest("hex");
  if (sha256 !== manifest.pictureFileSha256) {
    throw new MalformedFileError(
      `readEmojiPack: ${name}.bin must have the SHA-256 ${manifest.pictureFileSha256}, it has ${sha256}. ${restore}`,
    );
  }
  return { manifest, pictureFile };
}

const restore = "Restore the recipe's data from the repository, or rebuild it with: npm run recipe:pack";

async function readDataFile(folder: string, name: string): Promise<Uint8Array> {
  try {
    return await readFile(join(folder, name));
  } catch (cause) {
    throw new SdxsError("MISSING_FILE", `readEmojiPack: cannot read ${name}. ${restore}`, { cause });
  }
}

/** Every field as it may come from a file. */
type Unchecked<Value> = { readonly [Field in keyof Value]?: unknown };

function checkManifest(json: unknown, name: string): EmojiManifest {
  const malformed = (problem: string) => new MalformedFileError(`readEmojiPack: ${name}.json: ${problem}. ${restore}`);
  const manifest = (typeof json === "object" && json !== null ? json : {}) as Unchecked<EmojiManifest>;
  if (manifest.format !== "sdxs-emoji-pack" || manifest.version !== 1) {
    throw malformed('expected "format": "sdxs-emoji-pack" and "version": 1');
  }
  const { pictureSize, pictureFileBytes, pictureFileSha256, concepts } = manifest;
  if (!isCount(pictureSize) || !isCount(pictureFileBytes)) {
    throw malformed("pictureSize and pictureFileBytes must be whole numbers of at least 1");
  }
  if (typeof pictureFileSha256 !== "string") throw malformed("pictureFileSha256 must be text");
  if (!Array.isArray(concepts) || concepts.length === 0) throw malformed("concepts must be a list that is not empty");
  for (const { name: concept, subject, group, keywords, pictures } of concepts as Unchecked<EmojiConcept>[]) {
    if (![concept, subject, group].every((text) => typeof text === "string") || !Array.isArray(keywords)) {
      throw malformed(`concept ${JSON.stringify(concept)} needs name, subject, group and keywords`);
    }
    if (typeof pictures !== "object" || pictures === null)
      throw malformed(`concept "${String(concept)}" needs pictures`);
    for (const [style, range] of Object.entries(pictures)) {
      const [offset, length] = Array.isArray(range) ? (range as unknown[]) : [];
      const known = emojiStyles.some((emojiStyle) => emojiStyle === style);
      if (!known || !(offset === 0 || isCount(offset)) || !isCount(length) || offset + length > pictureFileBytes) {
        throw malformed(
          `concept "${String(concept)}", style "${style}": expected one of the styles ${emojiStyles.join(", ")} and a ` +
            `byte range within the picture file's ${pictureFileBytes} bytes, got ${JSON.stringify(range)}`,
        );
      }
    }
  }
  return json as EmojiManifest;
}

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value > 0;
}
