import type { RandomAccessSource } from "@sdxs/tensor";

/** Where fetched files are kept from one session to the next, by their addresses. */
export interface FileCache {
  /** A file that was kept, whole, or undefined. */
  get(url: string): Promise<KeptFile | undefined>;
  /** Replaces what was kept under the address. `version` is the server's ETag, if it gives one. */
  put(url: string, content: Uint8Array<ArrayBuffer>, version: string | null): Promise<void>;
}

export interface KeptFile extends RandomAccessSource {
  readonly version: string | null;
}

/** The name under which browsers list it. */
const CACHE_NAME = "sdxs";

/** The browser's Cache API, where there is one: on pages of https and localhost, and in their workers. */
export function browserCache(): FileCache | undefined {
  if (typeof caches === "undefined") return undefined;
  return {
    async get(url) {
      const response = await (await caches.open(CACHE_NAME)).match(url);
      if (response === undefined) return undefined;
      const blob = await response.blob(); // not in memory: browsers keep large ones on disk
      return {
        version: response.headers.get("etag"),
        size: blob.size,
        read: async (offset, length) => new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer()),
      };
    },
    async put(url, content, version) {
      const headers: HeadersInit = version === null ? {} : { etag: version };
      await (await caches.open(CACHE_NAME)).put(url, new Response(content, { headers }));
    },
  };
}
