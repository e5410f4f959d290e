import { InvalidArgumentError, type Address } from "@sdxs/tensor";

/** Where the hub's files are, unless HF_ENDPOINT names a mirror. */
export const HUB = "https://huggingface.co";

/** "owner/name" of the hub. */
const HUB_ID = /^[a-zA-Z0-9][\w.-]*\/[a-zA-Z0-9][\w.-]*$/;

/**
 * The address of the hub's model "owner/name", or of any other source: in browsers relative to the page ("./models/sdxs").
 * That of a folder ends in a slash.
 *
 * Throws `InvalidArgumentError` for what is neither.
 */
export function addressOf(source: string | Address, revision = "main", endpoint: string | Address = HUB): URL {
  const text = String(source);
  if (HUB_ID.test(text)) return new URL(`${hubPrefix(endpoint)}/${text}/resolve/${encodeURIComponent(revision)}/`);
  const base = (globalThis as { location?: { href: string } }).location?.href;
  if (!URL.canParse(text, base)) {
    throw new InvalidArgumentError(
      `${JSON.stringify(text)} is neither the id of a model on the hub, as "owner/name", nor an address that begins with https://.`,
    );
  }
  const address = new URL(text, base);
  if (!/(\/|\.safetensors)$/.test(address.pathname)) address.pathname += "/";
  return address;
}

/** What all addresses of a hub begin with, without a slash at its end. Throws `InvalidArgumentError`. */
export function hubPrefix(endpoint: string | Address): string {
  const text = String(endpoint);
  if (!URL.canParse(text) || !/^https?:$/.test(new URL(text).protocol)) {
    throw new InvalidArgumentError(
      `The hub's address (HF_ENDPOINT, or the option endpoint) must be as ${HUB}, got ${JSON.stringify(text)}.`,
    );
  }
  return new URL(text).href.replace(/\/+$/, "");
}

export interface HubFile {
  readonly model: string;
  readonly revision: string;
  /** Within the model's repository. */
  readonly path: string;
}

/** Which file of a hub an address is of. Undefined: of none. */
export function hubFile(url: string, endpoint: string | Address): HubFile | undefined {
  const prefix = `${hubPrefix(endpoint)}/`;
  if (!url.startsWith(prefix)) return undefined;
  const [, model, revision, path] = /^([^/]+\/[^/]+)\/resolve\/([^/]+)\/(.*)$/.exec(url.slice(prefix.length)) ?? [];
  if (model === undefined || revision === undefined || path === undefined) return undefined;
  return { model, revision: decodeURIComponent(revision), path: decodeURIComponent(path) };
}
