import {
  InvalidArgumentError,
  SdxsError,
  openSafetensors,
  type ModelFiles,
  type RandomAccessSource,
  type SafetensorsFile,
} from "@sdxs/tensor";
import { browserCache, type FileCache, type KeptFile } from "./file-cache.js";

export interface FetchOptions {
  /** Of a model of the hub: a branch, a tag or a commit. Default "main". */
  readonly revision?: string;
  /** Called whenever bytes have arrived. */
  readonly onProgress?: (progress: FetchProgress) => void;
  /** Stops with an error of code ABORTED. */
  readonly signal?: AbortSignal;
  /**
   * Where files are kept from one call to the next; one is used again while the server names the same version (ETag) and
   * size, or cannot be reached. Default: the Cache API in browsers, nowhere else; in Node `diskCache` of
   * `@sdxs/runtime/node`. false: nowhere.
   */
  readonly cache?: FileCache | false;
  /** In place of the global function, as to send a token along. */
  readonly fetch?: typeof fetch;
}

export interface FetchProgress {
  /** The address of what arrives. */
  readonly file: string;
  /** Bytes of all files so far, those from the cache included. */
  readonly loaded: number;
  /** Bytes of all files found so far; settled before the first weights arrive. */
  readonly total: number;
}

/** "owner/name" of the hub. */
const HUB_ID = /^[a-zA-Z0-9][\w.-]*\/[a-zA-Z0-9][\w.-]*$/;
/** Where the hub's files are. */
const HUB = "https://huggingface.co";
/** The address of a file there: its model and revision. */
const HUB_FILE = new RegExp(`^${HUB}/([^/]+/[^/]+)/resolve/([^/]+)/`);
/** What is fetched at once to see a safetensors file's header: chosen, more than that of Stable Diffusion XL's U-Net. */
const BEGINNING_BYTES = 2 ** 18;

/**
 * The address of the hub's model "owner/name", or of any other source: in browsers relative to the page ("./models/sdxs").
 * That of a folder ends in a slash.
 *
 * Throws `InvalidArgumentError` for what is neither.
 */
export function addressOf(source: string | URL, revision = "main"): URL {
  const text = String(source);
  if (HUB_ID.test(text)) return new URL(`${HUB}/${text}/resolve/${encodeURIComponent(revision)}/`);
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

/** The files under a web address, or beside it if it is a file. A file is looked for by HEAD and fetched by GET. */
export function webFiles(address: URL, options: FetchOptions = {}): ModelFiles {
  return filesOf(new Downloads(options), address);
}

function filesOf(downloads: Downloads, address: URL): ModelFiles {
  const location = (name = ""): string => new URL(name, address).href;
  return {
    location,
    async list(names) {
      const found = await Promise.allSettled(names.map((name) => downloads.find(location(name))));
      return names.filter((_, index) => {
        const result = found[index]!;
        if (result.status === "fulfilled") return result.value !== undefined;
        if (downloads.isOffline) return false;
        throw result.reason;
      });
    },
    readText: async (name) => {
      const file = await downloads.read(location(name));
      return new TextDecoder().decode(await file.read(0, file.size, new Uint8Array(file.size)));
    },
    openSafetensors: (name) => downloads.openSafetensors(location(name)),
    folder: (name) => filesOf(downloads, new URL(`${name}/`, address)),
  };
}

/** What is known of a file before it is fetched. */
interface FoundFile {
  /** In bytes. Undefined where the server does not tell, or sends it compressed. */
  readonly size: number | undefined;
  readonly version: string | null;
  readonly kept: KeptFile | undefined;
}

/** One loading of several files. */
class Downloads {
  private readonly cache: FileCache | undefined;
  private readonly files = new Map<string, Promise<FoundFile | undefined>>();
  /** SHA-256 of the hub's large files by address: those of the one model that is loaded. */
  private digests: Promise<ReadonlyMap<string, string>> | undefined;
  private loaded = 0;
  private total = 0;
  /** Whether a file of the cache stands for one that the server did not answer for. */
  isOffline = false;

  constructor(private readonly options: FetchOptions) {
    const { cache = browserCache() } = options;
    this.cache = cache === false ? undefined : cache;
  }

  /** Asks the server once for each file. Undefined: there is none. */
  find(url: string): Promise<FoundFile | undefined> {
    const file = this.files.get(url) ?? this.ask(url);
    this.files.set(url, file);
    return file;
  }

  /** A whole file, from the cache or the server. */
  async read(url: string): Promise<RandomAccessSource> {
    return this.whole(url, await this.expect(url));
  }

  /** The header now; the first tensor fetches all else. */
  async openSafetensors(url: string): Promise<SafetensorsFile> {
    const file = await this.expect(url);
    const named = (cause: unknown): never => {
      if (cause instanceof SdxsError) throw new SdxsError(cause.code, `${url}: ${cause.message}`, { cause });
      throw cause;
    };
    let whole = file.size === undefined ? this.whole(url, file) : undefined;
    let content = await (whole ?? file.kept ?? this.beginning(url, file.size ?? 0));
    const reader = await openSafetensors({
      size: content.size,
      read: (offset, length, into) => content.read(offset, length, into),
    }).catch(named);
    return {
      ...reader,
      read: async (name) => {
        content = await (whole ??= this.whole(url, file));
        return reader.read(name).catch(named);
      },
      close: async () => {
        content = inMemory(new Uint8Array()); // lets the file's memory go
        whole = undefined;
      },
    };
  }

  private async expect(url: string): Promise<FoundFile> {
    const file = await this.find(url);
    if (file === undefined) {
      throw new SdxsError("MISSING_FILE", `There is no file at ${url}. Check the address, or the id and its revision.`);
    }
    this.total += file.size ?? 0;
    return file;
  }

  private async ask(url: string): Promise<FoundFile | undefined> {
    const kept = await this.cache?.get(url);
    let response: Response;
    try {
      response = await this.request(url, "HEAD");
    } catch (error) {
      if (kept === undefined || this.options.signal?.aborted) throw error;
      this.isOffline = true;
      return { size: kept.size, version: kept.version, kept };
    }
    if (isMissing(response)) return undefined;
    const length = response.headers.get("content-length");
    const isCompressed = response.headers.has("content-encoding");
    const size = length === null || isCompressed ? undefined : Number(length);
    const version = response.headers.get("etag");
    const isCurrent = version === null ? size === kept?.size : version === kept?.version;
    return { size, version, kept: isCurrent ? kept : undefined };
  }

  private async whole(url: string, { kept, size, version }: FoundFile): Promise<RandomAccessSource> {
    if (kept !== undefined) {
      this.arrived(url, kept.size, size);
      return kept;
    }
    const bytes = await this.collect(url, size, Infinity, (length) => this.arrived(url, length, size));
    await this.verify(url, bytes);
    // A cache that is full must not keep a model from being used.
    await this.cache?.put(url, bytes, version).catch(() => undefined);
    return inMemory(bytes);
  }

  /** Compares a file of the hub with the SHA-256 that the hub lists for it, as it does for all that is large. */
  private async verify(url: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    const [, model, revision] = HUB_FILE.exec(url) ?? [];
    const { subtle } = globalThis.crypto as { subtle?: SubtleCrypto }; // undefined on pages that are not secure
    if (model === undefined || subtle === undefined) return;
    this.digests ??= this.listDigests(
      `${HUB}/api/models/${model}/tree/${revision}?recursive=true`,
      `${HUB}/${model}/resolve/${revision}/`,
    );
    const expected = (await this.digests).get(url);
    if (expected === undefined) return;
    const digest = Array.from(new Uint8Array(await subtle.digest("SHA-256", bytes)), (byte) =>
      byte.toString(16).padStart(2, "0"),
    ).join("");
    if (digest === expected) return;
    throw new SdxsError(
      "MALFORMED_FILE",
      `${url} arrived damaged: its SHA-256 is ${digest}, the hub names ${expected}. Fetch it again.`,
    );
  }

  /** Without an answer that can be read nothing is compared: a mirror may have no list. */
  private async listDigests(list: string, folder: string): Promise<ReadonlyMap<string, string>> {
    const entries: unknown = await this.request(list, "GET")
      .then((response) => response.json())
      .catch(() => this.throwIfAborted());
    const files = (Array.isArray(entries) ? entries : []) as { path?: string; lfs?: { oid?: string } }[];
    return new Map(files.flatMap(({ path, lfs }) => (path && lfs?.oid ? [[new URL(path, folder).href, lfs.oid]] : [])));
  }

  /** The first bytes of a file, as many as a header takes or more if they are asked for. */
  private async beginning(url: string, size: number): Promise<RandomAccessSource> {
    let bytes = await this.collect(url, size, BEGINNING_BYTES);
    return {
      size,
      read: async (offset, length) => {
        if (offset + length > bytes.length) bytes = await this.collect(url, size, offset + length);
        return bytes.subarray(offset, offset + length);
      },
    };
  }

  /** A file's first `limit` bytes, or all. */
  private async collect(
    url: string,
    size: number | undefined,
    limit: number,
    onBytes?: (length: number) => void,
  ): Promise<Uint8Array<ArrayBuffer>> {
    let bytes = new Uint8Array(Math.min(limit, size ?? BEGINNING_BYTES));
    let length = 0;
    for await (const chunk of this.chunks(url)) {
      if (length + chunk.length > bytes.length) {
        const larger = new Uint8Array(Math.max(length + chunk.length, size === undefined ? 2 * bytes.length : 0));
        larger.set(bytes);
        bytes = larger;
      }
      bytes.set(chunk, length);
      length += chunk.length;
      onBytes?.(chunk.length);
      if (length >= limit) break;
    }
    if (length < Math.min(limit, size ?? 0)) throw cutOff(url, length, size);
    return bytes.subarray(0, length);
  }

  private async *chunks(url: string): AsyncGenerator<Uint8Array> {
    const { body } = await this.request(url, "GET");
    if (body === null) return;
    const reader = body.getReader();
    let length = 0;
    try {
      for (;;) {
        const { done, value } = await reader.read().catch((cause: unknown): never => {
          this.throwIfAborted();
          throw cutOff(url, length, undefined, cause);
        });
        if (done) return;
        length += value.length;
        yield value;
      }
    } finally {
      await reader.cancel().catch(() => undefined); // it has failed before, or is no longer needed
    }
  }

  private async request(url: string, method: "GET" | "HEAD"): Promise<Response> {
    const { fetch: request = globalThis.fetch, signal } = this.options;
    this.throwIfAborted();
    const response = await request(url, { method, ...(signal && { signal }) }).catch((cause: unknown): never => {
      this.throwIfAborted();
      throw new SdxsError(
        "FILE_FAILURE",
        `Cannot reach ${url}: ${String(cause)}. Check the connection; a page may only fetch from servers that allow it (CORS).`,
        { cause },
      );
    });
    if (response.ok || (method === "HEAD" && isMissing(response))) return response;
    const { status } = response;
    throw new SdxsError(
      "FILE_FAILURE",
      status === 401 || status === 403
        ? `The server refuses ${url} (status ${status}). Check the address; for what needs a login, pass a fetch that sends your token.`
        : `The server failed to give ${url} (status ${status}). Try again later.`,
    );
  }

  private throwIfAborted(): void {
    const { signal } = this.options;
    if (signal?.aborted) throw new SdxsError("ABORTED", "The download was aborted.", { cause: signal.reason });
  }

  private arrived(file: string, length: number, size: number | undefined): void {
    this.loaded += length;
    if (size === undefined) this.total += length;
    this.options.onProgress?.({ file, loaded: this.loaded, total: this.total });
  }
}

/** Servers of single-page applications answer with their page for what they do not have. */
function isMissing({ status, headers }: Response): boolean {
  return status === 404 || status === 410 || (headers.get("content-type")?.startsWith("text/html") ?? false);
}

function cutOff(url: string, length: number, size: number | undefined, cause?: unknown): SdxsError {
  const expected = size === undefined ? "" : ` of ${size}`;
  return new SdxsError("FILE_FAILURE", `${url} broke off after ${length}${expected} bytes. Fetch it again.`, { cause });
}

function inMemory(bytes: Uint8Array<ArrayBuffer>): RandomAccessSource {
  return { size: bytes.length, read: async (offset, length) => bytes.subarray(offset, offset + length) };
}
