import { readFile, readlink, realpath, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { openedFile } from "./disk-cache.js";
import type { FileCache, KeptFile } from "./file-cache.js";
import { hubFile } from "./hub.js";

/**
 * What the hub's own client has fetched: models--OWNER--NAME/snapshots/COMMIT/FILE, which links to a blob that is named by its
 * hash. Nothing is written there.
 *
 * @param folder HF_HUB_CACHE
 * @param endpoint The hub's address, as files' addresses begin.
 */
export function hubCache(folder: string, endpoint: string): FileCache {
  return {
    async get(url) {
      const file = hubFile(url, endpoint);
      if (file === undefined) return undefined;
      const place = join(folder, `models--${file.model.replace("/", "--")}`);
      const named = await readFile(join(place, "refs", file.revision), "utf8").catch(() => file.revision);
      const snapshot = join(place, "snapshots", named.trim());
      const isThere = await stat(snapshot).then(
        (found) => found.isDirectory(),
        () => false,
      );
      if (!isThere) return undefined;
      // Of a snapshot, the client takes for absent what is not there, too.
      return (await blobOf(join(snapshot, file.path))) ?? null;
    },
    put: () => Promise.resolve(),
  };
}

async function blobOf(path: string): Promise<KeptFile | undefined> {
  try {
    const { size } = await stat(path);
    const blob = basename(await realpath(path));
    // Without links, as on Windows, the blob's name is not kept.
    const isLinked = await readlink(path).then(
      () => true,
      () => false,
    );
    const isSha256 = isLinked && /^[0-9a-f]{64}$/.test(blob);
    return { version: isLinked ? blob : null, ...(isSha256 && { sha256: blob }), ...openedFile(path, size) };
  } catch {
    return undefined;
  }
}

/** Looks into each cache in turn, and keeps in the last. */
export function cachesInTurn(...caches: readonly FileCache[]): FileCache {
  return {
    async get(url) {
      let isAbsent = false;
      for (const cache of caches) {
        const found = await cache.get(url);
        if (found) return found;
        isAbsent ||= found === null;
      }
      return isAbsent ? null : undefined;
    },
    put: async (...content) => caches.at(-1)?.put(...content),
  };
}
