import { createHash } from "node:crypto";
import { mkdir, open, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { readJsonFile, replaceFiles } from "@sdxs/tensor/node";
import type { FileCache } from "./file-cache.js";

/**
 * Keeps fetched files in a folder, each with a note NAME.json of its address, size and version. Files may be deleted at any
 * time.
 *
 * @param folder Default: sdxs in $XDG_CACHE_HOME, or else in ~/.cache.
 *
 * @example
 * const { components } = await fetchPipeline("owner/name", { cache: diskCache() });
 */
export function diskCache(
  folder = join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "sdxs"),
): FileCache {
  const pathOf = (url: string): string => join(folder, createHash("sha256").update(url).digest("hex"));
  return {
    async get(url) {
      const path = pathOf(url);
      const note = (await readJsonFile(`${path}.json`).catch(() => undefined)) as Note | undefined;
      const size = await stat(path).then(
        (found) => found.size,
        () => undefined,
      );
      if (note === undefined || note.size !== size) return undefined;
      return {
        version: note.version,
        size,
        async read(offset, length, into) {
          const handle = await open(path);
          try {
            const { bytesRead } = await handle.read(into, 0, length, offset);
            return into.subarray(0, bytesRead);
          } finally {
            await handle.close();
          }
        },
      };
    },
    async put(url, content, version) {
      const path = pathOf(url);
      const note: Note = { url, version, size: content.length };
      await mkdir(folder, { recursive: true });
      await replaceFiles([
        { path, chunks: [content] },
        { path: `${path}.json`, chunks: [`${JSON.stringify(note, null, 2)}\n`] },
      ]);
    },
  };
}

interface Note {
  readonly url: string;
  readonly version: string | null;
  readonly size: number;
}
