import type { RandomAccessSource } from "@sdxs/tensor";
import { digestOf } from "./file-digests.js";

/** Where fetched files are kept from one session to the next, by their addresses. */
export interface FileCache {
  /** A file that was kept, whole; null where it is known that the server has none; undefined where nothing is known. */
  get(url: string): Promise<KeptFile | null | undefined>;
  /**
   * Replaces what was kept under the address. `version` is the server's name for the content, if it gives one (ETag). A content of
   * null: the server has no such file, which is to be known when it cannot be asked.
   */
  put(url: string, content: Uint8Array<ArrayBuffer> | null, version: string | null): Promise<void>;
}

export interface KeptFile extends RandomAccessSource {
  readonly version: string | null;
  /** Of what was put. Undefined where the cache does not note it; nothing is compared then. */
  readonly sha256?: string;
  /** SHA-256 of what it holds now. Default: all is read into memory for it. */
  currentSha256?(): Promise<string>;
}

/** SHA-256 of what a kept file holds. Undefined on pages that are not secure. */
export async function keptSha256(file: KeptFile): Promise<string | undefined> {
  if (file.currentSha256 !== undefined) return file.currentSha256();
  const bytes = await file.read(0, file.size, new Uint8Array(file.size));
  return digestOf("SHA-256", bytes as Uint8Array<ArrayBuffer>);
}

/** The name under which browsers list it. */
const CACHE_NAME = "sdxs";
const HASH_HEADER = "x-sdxs-sha256";
const ABSENT = 404;

/** The browser's Cache API, where there is one: on pages of https and localhost, and in their workers. */
export function browserCache(): FileCache | undefined {
  if (typeof caches === "undefined") return undefined;
  return {
    async get(url) {
      const response = await (await caches.open(CACHE_NAME)).match(url);
      if (response === undefined) return undefined;
      if (response.status === ABSENT) return null;
      const blob = await response.blob(); // not in memory: browsers keep large ones on disk
      const sha256 = response.headers.get(HASH_HEADER);
      return {
        version: response.headers.get("etag"),
        size: blob.size,
        ...(sha256 !== null && { sha256 }),
        read: async (offset, length) => new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer()),
      };
    },
    async put(url, content, version) {
      const sha256 = content && (await digestOf("SHA-256", content));
      const headers: HeadersInit = {
        ...(version !== null && { etag: version }),
        ...(sha256 && { [HASH_HEADER]: sha256 }),
      };
      const response = new Response(content, { headers, status: content === null ? ABSENT : 200 });
      await (await caches.open(CACHE_NAME)).put(url, response);
    },
  };
}
