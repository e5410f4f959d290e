import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { MalformedFileError, SdxsError } from "@sdxs/tensor";
import { emojiStyles, type EmojiStyle } from "./captions.js";

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

/** What `emoji-64.json` holds. */
export interface EmojiManifest {
  readonly format: "sdxs-emoji-pack";
  readonly version: 1;
  /** Height and width of each picture in pixels. */
  readonly pictureSize: number;
  /** Size and SHA-256 (hexadecimal) of the picture file `emoji-64.bin`: WebP files, one after the other. */
  readonly pictureFileBytes: number;
  readonly pictureFileSha256: string;
  readonly concepts: readonly EmojiConcept[];
}

export interface EmojiPack {
  readonly manifest: EmojiManifest;
  /** The WebP files, addressed by the manifest's byte ranges. */
  readonly pictureFile: Uint8Array;
}

/** The recipe's data, seen from `src` and from the built `dist`. */
export const dataFolder = fileURLToPath(new URL("../data", import.meta.url));

/**
 * Reads the packed pictures and checks them against their manifest.
 *
 * @param folder holds `emoji-64.json` and `emoji-64.bin`; the recipe's own by default.
 * @throws SdxsError `MISSING_FILE`, MalformedFileError when a file is truncated, altered or not a pack.
 */
export async function readEmojiPack(folder: string = dataFolder): Promise<EmojiPack> {
  const manifestText = new TextDecoder().decode(await readDataFile(folder, "emoji-64.json"));
  const pictureFile = await readDataFile(folder, "emoji-64.bin");
  let json: unknown;
  try {
    json = JSON.parse(manifestText);
  } catch (cause) {
    throw new MalformedFileError(`readEmojiPack: emoji-64.json is not JSON. ${restore}`, { cause });
  }
  const manifest = checkManifest(json);
  if (pictureFile.length !== manifest.pictureFileBytes) {
    throw new MalformedFileError(
      `readEmojiPack: emoji-64.bin must have ${manifest.pictureFileBytes} bytes, it has ${pictureFile.length}. ${restore}`,
    );
  }
  const sha256 = createHash("sha256").update(pictureFile).digest("hex");
  if (sha256 !== manifest.pictureFileSha256) {
    throw new MalformedFileError(
      `readEmojiPack: emoji-64.bin must have the SHA-256 ${manifest.pictureFileSha256}, it has ${sha256}. ${restore}`,
    );
  }
  return { manifest, pictureFile };
}

const restore = "Restore recipes/emoji/data from the repository, or rebuild it with: npm run recipe:pack";

async function readDataFile(folder: string, name: string): Promise<Uint8Array> {
  try {
    return await readFile(join(folder, name));
  } catch (cause) {
    throw new SdxsError("MISSING_FILE", `readEmojiPack: cannot read ${name}. ${restore}`, { cause });
  }
}

/** Every field as it may come from a file. */
type Unchecked<Value> = { readonly [Field in keyof Value]?: unknown };

function checkManifest(json: unknown): EmojiManifest {
  const malformed = (problem: string) => new MalformedFileError(`readEmojiPack: emoji-64.json: ${problem}. ${restore}`);
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
  for (const { name, subject, group, keywords, pictures } of concepts as Unchecked<EmojiConcept>[]) {
    if (![name, subject, group].every((text) => typeof text === "string") || !Array.isArray(keywords)) {
      throw malformed(`concept ${JSON.stringify(name)} needs name, subject, group and keywords`);
    }
    if (typeof pictures !== "object" || pictures === null) throw malformed(`concept "${String(name)}" needs pictures`);
    for (const [style, range] of Object.entries(pictures)) {
      const [offset, length] = Array.isArray(range) ? (range as unknown[]) : [];
      const known = emojiStyles.some((emojiStyle) => emojiStyle === style);
      if (!known || !(offset === 0 || isCount(offset)) || !isCount(length) || offset + length > pictureFileBytes) {
        throw malformed(
          `concept "${String(name)}", style "${style}": expected one of the styles ${emojiStyles.join(", ")} and a ` +
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
