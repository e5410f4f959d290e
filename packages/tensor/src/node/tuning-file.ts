import { mkdir, readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import type { TuningStore } from "../webgpu/tuning/tuning-store.js";
import { replaceFile } from "./files.js";

/**
 * A store of measured tilings on disk, for `webgpuBackend` in Node: a JSON file. One that cannot be read counts as empty.
 *
 * @param path default: `sdxs/tilings.json` in the user's cache folder (`XDG_CACHE_HOME`, else `~/.cache`)
 *
 * @example
 * const backend = webgpuBackend({ device, tuningStore: fileTuningStore() });
 */
export function fileTuningStore(path = join(cacheFolder(), "sdxs", "tilings.json")): TuningStore {
  const read = async (): Promise<Record<string, unknown>> => {
    const content: unknown = await readFile(path, "utf8")
      .then(JSON.parse)
      .catch(() => undefined);
    return typeof content === "object" && content !== null ? { ...content } : {};
  };
  return {
    async get(key) {
      const value = (await read())[key];
      return typeof value === "string" ? value : undefined;
    },
    async set(key, value) {
      await mkdir(dirname(path), { recursive: true });
      await replaceFile(path, [JSON.stringify({ ...(await read()), [key]: value })]);
    },
  };
}

const cacheFolder = (): string => process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache");
