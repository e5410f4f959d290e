import { SdxsError } from "@sdxs/tensor";
import { headerDigests, type Digest } from "./file-digests.js";
import type { Answer, HttpRequests } from "./http-requests.js";

export interface DownloadOptions {
  readonly url: string;
  /** In bytes, as the server states it. */
  readonly size: number | undefined;
  /** Whether the file's hash is known, so that parts of two files will be found out. */
  readonly isTold: boolean;
  /** How many bytes are wanted, from the beginning on. */
  readonly limit: number;
  /** Called with the number of bytes that have arrived; a negative one where they come again. */
  readonly onBytes: (length: number) => void;
  /** What to throw for an answer that is neither the file nor a part of it. */
  readonly refusal: (answer: Answer) => SdxsError;
}

export interface Download {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The hashes in the headers. */
  readonly digests: readonly Digest[];
}

/** What is set aside for a file of unknown size at first: chosen. */
const UNKNOWN_SIZE = 2 ** 18;

/**
 * A file's first bytes, or all. Where an answer breaks off, the next goes on from there, if the server has ranges and the file is
 * known to be the same; else it begins again.
 *
 * @throws SdxsError what `http` and `refusal` give at first; FILE_FAILURE after the retries in a row that brought nothing more;
 * MALFORMED_FILE for more bytes than `size`.
 */
export async function download(http: HttpRequests, options: DownloadOptions): Promise<Download> {
  const { url, size } = options;
  const file = new ArrivingFile(options);
  let furthest = 0;
  for (let inVain = 0; ;) {
    try {
      await file.receive(http);
      return { bytes: file.content(), digests: file.told };
    } catch (error) {
      const canGoOn = error instanceof SdxsError && error.code === "FILE_FAILURE" && file.hasBegun;
      if (!canGoOn) throw error;
      const { length } = file;
      inVain = length > furthest ? 1 : inVain + 1;
      furthest = Math.max(furthest, length);
      await http.waitToResume(url, inVain, cutOff(url, length, size, error));
    }
  }
}

class ArrivingFile {
  length = 0;
  told: readonly Digest[] = [];
  /** Whether the server has given any of it. */
  hasBegun = false;
  private bytes: Uint8Array<ArrayBuffer>;
  /** The ETag of what has arrived. */
  private tag: string | null = null;

  constructor(private readonly options: DownloadOptions) {
    const { limit, size = UNKNOWN_SIZE } = options;
    this.bytes = new Uint8Array(Math.min(limit, size));
  }

  content(): Uint8Array<ArrayBuffer> {
    return this.bytes.subarray(0, this.length);
  }

  /** Asks for what is missing, and takes it. */
  async receive(http: HttpRequests): Promise<void> {
    const { url, size, limit, onBytes } = this.options;
    const answer = (await this.rest(http)) ?? (await http.request(url, "GET"));
    if (!this.isContinuedBy(answer)) await this.begin(answer);
    for await (const chunk of answer.chunks()) {
      this.append(chunk);
      onBytes(chunk.length);
      if (this.length >= limit) break;
    }
    if (size === undefined) return;
    if (this.length > size) {
      const message = `${url} has more than the ${size} bytes that its server said. Fetch it again.`;
      throw new SdxsError("MALFORMED_FILE", message);
    }
    if (this.length < Math.min(limit, size)) throw new SdxsError("FILE_FAILURE", "The answer ended too soon.");
  }

  /** Requests the rest of a download. Undefined where no bytes have arrived, or the server gives a part of another file. */
  private async rest(http: HttpRequests): Promise<Answer | undefined> {
    const { url, isTold } = this.options;
    const isKnown = this.tag !== null || isTold || this.told.length > 0;
    if (this.length === 0 || !isKnown) return undefined;
    const answer = await http.request(url, "GET", rangeFrom(url, this.length, this.tag));
    if (this.isContinuedBy(answer) || (answer.status !== 206 && answer.status !== 416)) return answer;
    await answer.cancel();
    return undefined;
  }

  private isContinuedBy(answer: Answer): boolean {
    if (answer.status !== 206 || this.length === 0) return false;
    const { size } = this.options;
    const [, start, total] = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(answer.header("content-range") ?? "") ?? [];
    const tag = answer.header("etag");
    return (
      Number(start) === this.length &&
      (size === undefined || total === "*" || Number(total) === size) &&
      (this.tag === null || tag === null || tag === this.tag)
    );
  }

  /** From an answer with all of it. */
  private async begin(answer: Answer): Promise<void> {
    if (!answer.ok || answer.status === 206) {
      await answer.cancel();
      throw this.options.refusal(answer);
    }
    if (this.length > 0) this.options.onBytes(-this.length);
    this.length = 0;
    this.hasBegun = true;
    this.told = headerDigests((name) => answer.header(name));
    // A weak one does not promise the same bytes.
    const tag = answer.header("etag");
    this.tag = tag?.startsWith("W/") ? null : tag;
  }

  private append(chunk: Uint8Array): void {
    const end = this.length + chunk.length;
    if (end > this.bytes.length) {
      const isOpen = this.options.size === undefined;
      const larger = new Uint8Array(Math.max(end, isOpen ? 2 * this.bytes.length : 0));
      larger.set(this.content());
      this.bytes = larger;
    }
    this.bytes.set(chunk, this.length);
    this.length = end;
  }
}

/**
 * Of what comes after the first `length` bytes. Pages may ask other servers for ranges without asking them first whether they may,
 * but not by If-Range: the answer's ETag is compared in its place.
 */
function rangeFrom(url: string, length: number, tag: string | null): Record<string, string> {
  const { origin } = globalThis as { origin?: string };
  const isElsewhere = typeof location !== "undefined" && origin !== new URL(url).origin;
  return { range: `bytes=${length}-`, ...(tag !== null && !isElsewhere && { "if-range": tag }) };
}

function cutOff(url: string, length: number, size: number | undefined, cause: SdxsError): SdxsError {
  const expected = size === undefined ? "" : ` of ${size}`;
  const message = `${url} broke off after ${length}${expected} bytes. Fetch it again. ${cause.message}`;
  return new SdxsError("FILE_FAILURE", message, { cause });
}
