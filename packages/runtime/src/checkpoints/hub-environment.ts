import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { SdxsError } from "@sdxs/tensor";
import { cacheFolder, hubHome, inHome, type Environment } from "./cache-folders.js";
import { diskCache } from "./disk-cache.js";
import { HUB, hubPrefix } from "./hub.js";
import { cachesInTurn, hubCache } from "./hub-cache.js";
import type { FetchOptions } from "./web-files.js";

/**
 * What the hub's own client would go by, as options of `fetchPipeline` and `fetchModel`: its address (HF_ENDPOINT), the token
 * (HF_TOKEN, or the file HF_TOKEN_PATH or $HF_HOME/token that its login writes), the files that it has fetched (HF_HUB_CACHE or
 * $HF_HOME/hub; read, never written), whether to go without the network (HF_HUB_OFFLINE), and its limit on silence in seconds
 * (HF_HUB_DOWNLOAD_TIMEOUT). Other files are kept by `diskCache`.
 *
 * @throws InvalidArgumentError that names the variable.
 *
 * @example
 * const { components } = await fetchPipeline("owner/name", await hubEnvironment());
 */
export async function hubEnvironment(
  environment: Environment = process.env,
): Promise<Pick<FetchOptions, "endpoint" | "token" | "offline" | "silenceMs"> & Required<Pick<FetchOptions, "cache">>> {
  const endpoint = hubPrefix(environment["HF_ENDPOINT"] || HUB);
  const token = await tokenOf(environment);
  const named = environment["HF_HUB_CACHE"] || environment["HUGGINGFACE_HUB_CACHE"];
  const folder = named ? inHome(named, environment) : join(hubHome(environment), "hub");
  const seconds = Number(environment["HF_HUB_DOWNLOAD_TIMEOUT"] || NaN);
  return {
    endpoint,
    ...(token !== undefined && { token }),
    offline: isOn(environment["HF_HUB_OFFLINE"]) || isOn(environment["TRANSFORMERS_OFFLINE"]),
    ...(seconds > 0 && { silenceMs: 1000 * seconds }),
    cache: cachesInTurn(hubCache(folder, endpoint), diskCache(cacheFolder(environment))),
  };
}

async function tokenOf(environment: Environment): Promise<string | undefined> {
  const own = environment["HF_TOKEN"] || environment["HUGGING_FACE_HUB_TOKEN"];
  if (own) return cleaned(own);
  if (isOn(environment["HF_HUB_DISABLE_IMPLICIT_TOKEN"])) return undefined;
  const path = environment["HF_TOKEN_PATH"] || join(hubHome(environment), "token");
  try {
    return cleaned(await readFile(inHome(path, environment), "utf8"));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw new SdxsError("FILE_FAILURE", `Cannot read the hub's token at ${path}: ${String(cause)}`, { cause });
  }
}

const cleaned = (token: string): string | undefined => token.trim() || undefined;

/** As the hub's client reads it. */
const isOn = (value: string | undefined): boolean => ["1", "ON", "YES", "TRUE"].includes(value?.toUpperCase() ?? "");
