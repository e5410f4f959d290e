import {
  InvalidArgumentError,
  SdxsError,
  openSafetensors,
  type ModelFiles,
  type RandomAccessSource,
  type SafetensorsFile,
  type Address,
} from "@sdxs/tensor";
import { download, type Download } from "./download.js";
import { browserCache, keptSha256, type FileCache, type KeptFile } from "./file-cache.js";
import { canHash, checkDigests, givenDigest, hubDigest, plainTag, type Digest } from "./file-digests.js";
import { HttpRequests, type Answer, type HttpOptions } from "./http-requests.js";
import { HUB, hubFile, hubPrefix } from "./hub.js";

export interface FetchOptions extends HttpOptions {
  /** Of a model of the hub: a branch, a tag or a commit. Default "main". */
  readonly revision?: string;
  /** Called whenever bytes have arrived, and while none do. */
  readonly onProgress?: (progress: FetchProgress) => void;
  /**
   * Where files are kept from one call to the next; one is used again while its SHA-256 is the one that was noted and the server
   * names the same version (ETag) and size, or cannot be reached. Default: the Cache API in browsers, nowhere else; in Node
   * `diskCache` or `hubEnvironment` of `@sdxs/runtime/node`. false: nowhere.
   */
  readonly cache?: FileCache | false;
  /**
   * SHA-256 by file, in hexadecimal digits: { "unet/diffusion_pytorch_model.safetensors": "9f86..." }. Each file that is named must
   * be read; one that differs is MALFORMED_FILE.
   */
  readonly sha256?: Readonly<Record<string, string>>;
  /** The hub's address, for a mirror. Default "https://huggingface.co". */
  readonly endpoint?: string | Address;
  /** For what needs a login on the hub. It is sent to the hub's address alone. */
  readonly token?: string;
  /** Go without the network: only what is kept is read. Default false. */
  readonly offline?: boolean;
}

export interface FetchProgress {
  /** The address of what arrives. */
  readonly file: string;
  /** Bytes of all files so far, those from the cache included. */
  readonly loaded: number;
  /** Bytes of all files found so far; settled before the first weights arrive. */
  readonly total: number;
  /** Why nothing arrives: a silent server, or one that asks to come again later. Absent once something does. */
  readonly waiting?: string;
}

/** What is fetched at once to see a safetensors file's header: chosen, more than that of Stable Diffusion XL's U-Net. */
const BEGINNING_BYTES = 2 ** 18;
/** Of what is no file, but a page: chosen, what a message quotes. */
const QUOTED_BYTES = 60;
/** What servers answer to HEAD who only know GET; those of signed addresses refuse it. */
const ONLY_GET: readonly number[] = [400, 403, 405, 501];

/** The files under a web address, or beside it if it is a file. A file is looked for by HEAD, or else by GET. */
export function webFiles(address: URL, options: FetchOptions = {}): WebFiles {
  const downloads = new Downloads(address, options);
  return { ...filesOf(downloads, address), checkAllRead: () => downloads.checkAllRead() };
}

export interface WebFiles extends ModelFiles {
  /** Throws `InvalidArgumentError` for a name in the option sha256 that nothing was compared with. */
  checkAllRead(): void;
}

function filesOf(downloads: Downloads, address: URL): ModelFiles {
  const location = (name = ""): string => new URL(name, address).href;
  return {
    location,
    async list(names) {
      const found = await Promise.all(names.map((name) => downloads.find(location(name))));
      return names.filter((_, index) => found[index] !== undefined);
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
  /** ETag, or the hub's name for the content. */
  readonly version: string | null;
  readonly kept: KeptFile | undefined;
  readonly digests: readonly Digest[];
}

/** One loading of several files. */
class Downloads {
  private readonly cache: FileCache | undefined;
  private readonly endpoint: string;
  private readonly http: HttpRequests;
  private readonly files = new Map<string, Promise<FoundFile | undefined>>();
  /** By address, what the caller gives for files that were not read yet. */
  private readonly given: Map<string, Digest>;
  private readonly notCompared: Set<string>;
  /** The hashes that the hub lists, by address: of the one model that is loaded. */
  private listed: Promise<ReadonlyMap<string, Digest>> | undefined;
  /** Servers that answer GET alone. */
  private readonly onlyGet = new Set<string>();
  private loaded = 0;
  private total = 0;
  /** Whether a server did not answer: kept files then stand for what it would. */
  private isUnreachable = false;

  constructor(
    address: URL,
    private readonly options: FetchOptions,
  ) {
    const { cache = browserCache(), endpoint = HUB, token, sha256 = {} } = options;
    this.cache = cache === false ? undefined : cache;
    this.endpoint = hubPrefix(endpoint);
    this.given = new Map(
      Object.entries(sha256).map(([name, hex]) => [new URL(name, address).href, givenDigest(name, hex)]),
    );
    this.notCompared = new Set(this.given.keys());
    this.http = new HttpRequests(options, token ? { prefix: this.endpoint, token } : undefined, (file, waiting) => {
      options.onProgress?.({ file, loaded: this.loaded, total: this.total, waiting });
    });
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

  checkAllRead(): void {
    const [left] = this.notCompared;
    if (left === undefined) return;
    throw new InvalidArgumentError(
      `The option sha256 names ${left}, which was not read, so nothing was compared. Name what is loaded, by paths within the source.`,
    );
  }

  /** A file that must be there. One that is kept is what was put. */
  private async expect(url: string): Promise<FoundFile> {
    const file = await this.find(url);
    if (file === undefined) {
      throw new SdxsError("MISSING_FILE", `There is no file at ${url}. Check the address, or the id and its revision.`);
    }
    this.total += file.size ?? 0;
    const { kept } = file;
    if (kept === undefined || (await this.isIntact(url, kept))) return file;
    if (this.isWithoutNetwork()) {
      throw new SdxsError(
        "MALFORMED_FILE",
        `What is kept of ${url} was damaged since, and its server cannot be reached. Fetch it again once it can be.`,
      );
    }
    return { ...file, kept: undefined };
  }

  private async isIntact(url: string, kept: KeptFile): Promise<boolean> {
    const given = this.given.get(url);
    if (kept.sha256 === undefined && given === undefined) return true;
    const current = await keptSha256(kept).catch(() => "unreadable");
    if (current === undefined) return given === undefined;
    if (current !== (kept.sha256 ?? current) || current !== (given?.hex ?? current)) return false;
    this.notCompared.delete(url);
    return true;
  }

  private isWithoutNetwork = (): boolean => this.options.offline === true || this.isUnreachable;

  private async ask(url: string): Promise<FoundFile | undefined> {
    const kept = await this.cache?.get(url);
    const withoutServer = (): FoundFile | undefined =>
      kept ? { size: kept.size, version: kept.version, kept, digests: [] } : undefined;
    if (this.options.offline && kept === undefined) {
      throw new SdxsError(
        "FILE_FAILURE",
        `${url} is not kept here, and the network is not to be used (HF_HUB_OFFLINE, or the option offline). Fetch it with the network once.`,
      );
    }
    if (this.isWithoutNetwork() && kept !== undefined) return withoutServer();
    let answer: Answer;
    try {
      answer = await this.head(url);
    } catch (error) {
      const isFailure = error instanceof SdxsError && error.code === "FILE_FAILURE";
      if (!isFailure || kept === undefined) throw error;
      this.isUnreachable = true;
      return withoutServer();
    }
    if (isAbsent(answer)) {
      if (kept !== null) await this.keep(url, null, null);
      return undefined;
    }
    if (answer.header("content-type")?.startsWith("text/html")) throw await this.notAFile(url);
    const length = answer.linked("x-linked-size") ?? answer.header("content-length");
    const isCompressed = answer.header("content-encoding") !== null;
    const size = length === null || isCompressed ? undefined : Number(length);
    const tag = answer.linked("x-linked-etag");
    const version = plainTag(tag ?? answer.header("etag")) ?? null;
    // Only the hub's own ETag is a hash; of who keeps its large files it may be anything.
    const isOfHub = answer.header("x-repo-commit") !== null;
    const digests = hubDigest(tag ?? (isOfHub ? answer.header("etag") : null));
    const isCurrent = version === null ? size === kept?.size : version === kept?.version;
    return { size, version, kept: kept && isCurrent ? kept : undefined, digests };
  }

  /** The head of what GET would give, or of what is absent. */
  private async head(url: string): Promise<Answer> {
    const { origin } = new URL(url);
    if (!this.onlyGet.has(origin)) {
      const answer = await this.http.request(url, "HEAD");
      await answer.cancel();
      if (answer.ok || isAbsent(answer)) return answer;
      if (!ONLY_GET.includes(answer.status)) throw this.refusal(url, answer);
    }
    const answer = await this.http.request(url, "GET");
    await answer.cancel();
    if (!answer.ok && !isAbsent(answer)) throw this.refusal(url, answer);
    if (answer.ok) this.onlyGet.add(origin);
    return answer;
  }

  private async whole(url: string, file: FoundFile): Promise<RandomAccessSource> {
    const { kept, size, version } = file;
    if (kept !== undefined) {
      this.arrived(url, kept.size, size);
      return kept;
    }
    const { bytes, digests } = await this.collect(url, file, Infinity, (length) => this.arrived(url, length, size));
    await this.verify(url, bytes, [...file.digests, ...digests]);
    await this.keep(url, bytes, version);
    return inMemory(bytes);
  }

  /** A cache that is full must not keep a model from being used. */
  private async keep(url: string, content: Uint8Array<ArrayBuffer> | null, version: string | null): Promise<void> {
    await this.cache?.put(url, content, version).catch(() => undefined);
  }

  /** Compares a file with the hashes of the caller, of the server's headers, and of the hub's list. */
  private async verify(url: string, bytes: Uint8Array<ArrayBuffer>, told: readonly Digest[]): Promise<void> {
    const given = this.given.get(url);
    if (given !== undefined && !canHash()) {
      throw new InvalidArgumentError(
        "The option sha256 needs a page that comes by https, or localhost: others cannot compute it.",
      );
    }
    const listed = told.length === 0 ? (await this.listedDigests(url))?.get(url) : undefined;
    await checkDigests(url, bytes, [...(given ? [given] : []), ...told, ...(listed ? [listed] : [])]);
    this.notCompared.delete(url);
  }

  /** Of files of the hub. Without an answer that can be read nothing is compared: a mirror may have no list. */
  private listedDigests(url: string): Promise<ReadonlyMap<string, Digest>> | undefined {
    const file = hubFile(url, this.endpoint);
    if (file === undefined) return undefined;
    const revision = encodeURIComponent(file.revision);
    const folder = `${this.endpoint}/${file.model}/resolve/${revision}/`;
    const list = async (): Promise<ReadonlyMap<string, Digest>> => {
      const answer = await this.http.request(
        `${this.endpoint}/api/models/${file.model}/tree/${revision}?recursive=true`,
        "GET",
      );
      const text = new TextDecoder().decode(await allOf(answer));
      const entries = JSON.parse(text) as { path?: string; oid?: string; lfs?: { oid?: string } }[];
      return new Map(
        entries.flatMap(({ path = "", oid = "", lfs }) =>
          hubDigest(lfs?.oid ?? oid).map((digest) => [
            new URL(path, folder).href,
            { ...digest, from: "what the hub lists" },
          ]),
        ),
      );
    };
    return (this.listed ??= list().catch(() => {
      this.http.throwIfAborted();
      return new Map();
    }));
  }

  /** The first bytes of a file, as many as a header takes or more if they are asked for. */
  private async beginning(url: string, size: number): Promise<RandomAccessSource> {
    const file = { size, digests: [] };
    let { bytes } = await this.collect(url, file, BEGINNING_BYTES);
    return {
      size,
      read: async (offset, length) => {
        if (offset + length > bytes.length) ({ bytes } = await this.collect(url, file, offset + length));
        return bytes.subarray(offset, offset + length);
      },
    };
  }

  /** A file's first `limit` bytes, or all, and the hashes that its headers tell. */
  private collect(
    url: string,
    { size, digests }: Pick<FoundFile, "size" | "digests">,
    limit: number,
    onBytes: (length: number) => void = () => undefined,
  ): Promise<Download> {
    const refusal = (answer: Answer): SdxsError => this.refusal(url, answer);
    return download(this.http, { url, size, isTold: digests.length > 0, limit, onBytes, refusal });
  }

  /** What to throw for a status that is neither success nor absence. */
  private refusal(url: string, answer: Answer): SdxsError {
    const { status } = answer;
    if (status === 404 || status === 410) {
      return new SdxsError(
        "MISSING_FILE",
        `There is no file at ${url} any more (status ${status}). Load the model again.`,
      );
    }
    if (status !== 401 && status !== 403) {
      return new SdxsError("FILE_FAILURE", `The server failed to give ${url} (status ${status}). Try again later.`);
    }
    const hub = hubFile(url, this.endpoint);
    const said = answer.header("x-error-message");
    const what = `The server refuses ${url} (status ${status}${said === null ? "" : `: ${said}`}).`;
    if (hub === undefined) {
      return new SdxsError(
        "ACCESS_DENIED",
        `${what} Check the address; for what needs a login, pass a fetch that sends your token.`,
      );
    }
    return new SdxsError(
      "ACCESS_DENIED",
      this.options.token
        ? `${what} Check that the token is valid and may read ${hub.model}, and that its terms are accepted at ${this.endpoint}/${hub.model}.`
        : `${what} Check the id ${hub.model}; if it needs a login, give a token that may read it: HF_TOKEN, or the option token.`,
    );
  }

  /** Of a page of HTML in place of a file. Servers answer so in place of errors, and those of single-page applications for all. */
  private async notAFile(url: string): Promise<SdxsError> {
    const { bytes } = await this.collect(url, { size: undefined, digests: [] }, QUOTED_BYTES);
    const start = JSON.stringify(new TextDecoder().decode(bytes.subarray(0, QUOTED_BYTES)));
    return new SdxsError(
      "MALFORMED_FILE",
      `${url} is a page of HTML, not the file: it begins with ${start}. Check the address; a server must answer with status 404 for what it does not have (Vite: appType "mpa").`,
    );
  }

  private arrived(file: string, length: number, size: number | undefined): void {
    this.loaded += length;
    if (size === undefined) this.total += length;
    this.options.onProgress?.({ file, loaded: this.loaded, total: this.total });
  }
}

const isAbsent = ({ status }: Answer): boolean => status === 404 || status === 410;

async function allOf(answer: Answer): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of answer.chunks()) chunks.push(chunk);
  return new Uint8Array(await new Blob(chunks as BlobPart[]).arrayBuffer());
}

function inMemory(bytes: Uint8Array<ArrayBuffer>): RandomAccessSource {
  return { size: bytes.length, read: async (offset, length) => bytes.subarray(offset, offset + length) };
}
