import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, open, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { formatJson } from "@sdxs/tensor";
import { readJsonFile, replaceFiles } from "@sdxs/tensor/node";
import { cacheFolder } from "./cache-folders.js";
import type { FileCache } from "./file-cache.js";

/**
 * Keeps fetched files in a folder, each with a note NAME.json of its address, size, version and SHA-256. Files may be deleted
 * at any time.
 *
 * @param folder Default: sdxs in $HF_HOME, where the hub's files go, or else in $XDG_CACHE_HOME or ~/.cache.
 * @throws InvalidArgumentError where none of these is known.
 *
 * @example
 * const { components } = await fetchPipeline("owner/name", { cache: diskCache() });
 */
export function diskCache(folder = cacheFolder(process.env)): FileCache {
  const pathOf = (url: string): string => join(folder, createHash("sha256").update(url).digest("hex"));
  return {
    async get(url) {
      const path = pathOf(url);
      const note = (await readJsonFile(`${path}.json`).catch(() => undefined)) as Note | undefined;
      if (note?.size === null) return null;
      const size = await stat(path).then(
        (found) => found.size,
        () => undefined,
      );
      if (note === undefined || note.size !== size) return undefined;
      return {
        version: note.version,
        ...(note.sha256 !== undefined && { sha256: note.sha256 }),
        ...openedFile(path, size),
      };
    },
    async put(url, content, version) {
      const path = pathOf(url);
      const note: Note =
        content === null
          ? { url, version, size: null }
          : { url, version, size: content.length, sha256: createHash("sha256").update(content).digest("hex") };
      await mkdir(folder, { recursive: true });
      if (content === null) await rm(path, { force: true });
      await replaceFiles([
        ...(content === null ? [] : [{ path, chunks: [content] }]),
        { path: `${path}.json`, chunks: [`${formatJson(note, 2)}\n`] },
      ]);
    },
  };
}

interface Note {
  readonly url: string;
  readonly version: string | null;
  /** In bytes; null: the server has no such file. */
  readonly size: number | null;
  /** Undefined in notes of versions before it was noted. */
  readonly sha256?: string;
}

/** A file on the disk, opened for each reading. */
export const openedFile = (path: string, size: number) => ({
  size,
  async read(offset: number, length: number, into: Uint8Array<ArrayBuffer>): Promise<Uint8Array> {
    const handle = await open(path);
    try {
      const { bytesRead } = await handle.read(into, 0, length, offset);
      return into.subarray(0, bytesRead);
    } finally {
      await handle.close();
    }
  },
  async currentSha256(): Promise<string> {
    const hash = createHash("sha256");
    await pipeline(createReadStream(path), hash);
    return hash.digest("hex");
  },
});
