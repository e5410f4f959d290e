import { InvalidArgumentError, SdxsError, type Signal } from "@sdxs/tensor";

/** The type of the global function, where the consumer's `lib` or `types` declare it. */
export type Fetch = typeof globalThis extends { fetch: infer Global }
  ? Global
  : (address: string, options?: object) => Promise<object>;

export interface HttpOptions {
  /** Stops with an error of code ABORTED. */
  readonly signal?: Signal;
  /** In place of the global function, as to send other headers along. */
  readonly fetch?: Fetch;
  /** Milliseconds without an answer or another byte after which a request is given up and made again. Default 30,000. */
  readonly silenceMs?: number;
  /**
   * How often a request is made again where the server is silent, breaks off without another byte, or says that it is busy (status
   * 429, 502, 503 or 504). Default 4.
   */
  readonly retries?: number;
}

/** What goes with every request to addresses that begin with `prefix`, and to no others: a redirect elsewhere goes without. */
export interface Credentials {
  readonly prefix: string;
  readonly token: string;
}

/** The default of `silenceMs`: chosen, and thrice what the hub's own client waits. */
const SILENCE_MS = 30_000;
/** The default of `retries`: chosen. */
const RETRIES = 4;
/** Chosen: where a server asks for a longer wait, the request fails at once and says so. */
const LONGEST_WAIT_MS = 60_000;
/** Silence is reported after each such part of its limit: chosen. */
const PARTS_OF_SILENCE = 6;
/** Timers of more milliseconds end at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;
/** As in the standard of fetch. */
const MAX_REDIRECTS = 20;
/** What servers answer who are busy, and gateways whose servers are. */
const BUSY: readonly number[] = [429, 502, 503, 504];

/** A server's answer. Its body is read once, or cancelled. */
export interface Answer {
  readonly status: number;
  readonly ok: boolean;
  /** The header of the answer that redirected here first, or else of the last: the hub tells there what a file is. */
  linked(name: string): string | null;
  header(name: string): string | null;
  /** The body as it comes. Throws ABORTED, or FILE_FAILURE where it breaks off. */
  chunks(): AsyncGenerator<Uint8Array>;
  cancel(): Promise<void>;
}

/** Requests that notice silence, wait where the server asks for it, and say which server failed and why. */
export class HttpRequests {
  private readonly retries: number;
  private readonly silenceMs: number;
  /** Browsers hide where a request is redirected to; they follow by themselves, and drop tokens on the way as is done here. */
  private followsItself = false;

  /** @param onWait Called with the reason whenever nothing arrives. */
  constructor(
    private readonly options: HttpOptions,
    private readonly credentials: Credentials | undefined,
    private readonly onWait: (url: string, reason: string) => void,
  ) {
    const { retries = RETRIES, silenceMs = SILENCE_MS } = options;
    if (!(silenceMs > 0)) {
      throw new InvalidArgumentError(`silenceMs must be a positive number of milliseconds, got ${silenceMs}.`);
    }
    if (!Number.isInteger(retries) || retries < 0) {
      throw new InvalidArgumentError(`retries must be a whole number of at least 0, got ${retries}.`);
    }
    this.retries = retries;
    this.silenceMs = silenceMs;
  }

  /** The server's answer, of whatever status but those of a busy server. */
  async request(url: string, method: "GET" | "HEAD", headers: Readonly<Record<string, string>> = {}): Promise<Answer> {
    for (let attempt = 0; ; attempt++) {
      let failure: SdxsError;
      let waitMs = backoffMs(attempt);
      try {
        const answer = await this.follow(url, method, headers);
        if (!BUSY.includes(answer.status)) return answer;
        await answer.cancel();
        waitMs = retryAfterMs(answer.header("retry-after"), Date.now()) ?? waitMs;
        failure = busy(url, answer.status, waitMs);
      } catch (error) {
        if (!(error instanceof SilenceError)) throw error;
        failure = error;
        waitMs = 0; // it has been waited for
      }
      if (attempt >= this.retries || waitMs > LONGEST_WAIT_MS) throw failure;
      await this.wait(url, waitMs, failure.message);
    }
  }

  /**
   * Waits before a body that broke off is asked for again: not at all before the first such attempt in a row.
   *
   * @throws `failure` where that has been done often enough
   */
  async waitToResume(url: string, attempt: number, failure: SdxsError): Promise<void> {
    if (attempt > this.retries) throw failure;
    await this.wait(url, attempt === 1 ? 0 : backoffMs(attempt - 2), failure.message);
  }

  throwIfAborted(): void {
    const { signal } = this.options;
    if (signal?.aborted) throw new SdxsError("ABORTED", "The download was aborted.", { cause: signal.reason });
  }

  private async follow(
    url: string,
    method: "GET" | "HEAD",
    headers: Readonly<Record<string, string>>,
  ): Promise<Answer> {
    let address = url;
    let linking: Headers | undefined;
    for (let redirects = 0; ; redirects++) {
      const exchange = await this.exchange(address, method, headers);
      const { response } = exchange;
      const location = response.headers.get("location");
      if (response.type === "opaqueredirect") {
        this.followsItself = true;
        exchange.end();
        continue;
      }
      if (response.status < 300 || response.status >= 400 || location === null || response.status === 304) {
        return this.answer(url, exchange, linking ?? response.headers);
      }
      linking ??= response.headers;
      // All that is asked for by HEAD; who keeps the file may not even answer it.
      if (method === "HEAD" && linking.has("x-linked-size")) {
        exchange.end();
        return { ...this.answer(url, exchange, linking), status: 200, ok: true };
      }
      await response.body?.cancel().catch(() => undefined); // it has failed before
      exchange.end();
      if (redirects >= MAX_REDIRECTS || !URL.canParse(location, address)) {
        throw new SdxsError(
          "FILE_FAILURE",
          `${url} is redirected without end, at last to ${location}. Check the address.`,
        );
      }
      address = new URL(location, address).href;
    }
  }

  /** One request, up to the head of its answer. */
  private async exchange(
    url: string,
    method: "GET" | "HEAD",
    headers: Readonly<Record<string, string>>,
  ): Promise<Exchange> {
    this.throwIfAborted();
    const { fetch: send = globalThis.fetch, signal } = this.options;
    const watch = watchSilence(this.silenceMs, signal, (seconds) => {
      this.onWait(url, `no answer for ${seconds} s`);
    });
    const { credentials } = this;
    const token = credentials && isUnder(url, credentials.prefix) && { authorization: `Bearer ${credentials.token}` };
    try {
      const response = await send(url, {
        method,
        headers: { ...headers, ...token },
        redirect: this.followsItself ? "follow" : "manual",
        signal: watch.signal,
      });
      watch.heard();
      return { response, watch, end: watch.end };
    } catch (cause) {
      watch.end();
      this.throwIfAborted();
      if (watch.isSilent()) throw new SilenceError(url, this.silenceMs, "answered", cause);
      throw new SdxsError("FILE_FAILURE", `Cannot reach ${url}: ${reasonOf(cause)}`, { cause });
    }
  }

  private answer(url: string, { response, watch, end }: Exchange, linking: Headers): Answer {
    const { status, ok, headers, body } = response;
    const throwReason = (length: number, cause: unknown): never => {
      this.throwIfAborted();
      if (watch.isSilent()) throw new SilenceError(url, this.silenceMs, `sent another byte after ${length}`, cause);
      throw new SdxsError("FILE_FAILURE", `${url} broke off after ${length} bytes: ${reasonOf(cause)}`, { cause });
    };
    return {
      status,
      ok,
      linked: (name) => linking.get(name) ?? headers.get(name),
      header: (name) => headers.get(name),
      async *chunks() {
        const reader = body?.getReader();
        let length = 0;
        try {
          while (reader !== undefined) {
            const { done, value } = await reader.read().catch((cause: unknown) => throwReason(length, cause));
            if (done) return;
            watch.heard();
            length += value.length;
            yield value;
          }
        } finally {
          end();
          await reader?.cancel().catch(() => undefined); // it has failed before, or is no longer needed
        }
      },
      async cancel() {
        end();
        await body?.cancel().catch(() => undefined);
      },
    };
  }

  private async wait(url: string, ms: number, reason: string): Promise<void> {
    this.throwIfAborted();
    this.onWait(url, ms > 0 ? `${reason} Next attempt in ${Math.ceil(ms / 1000)} s.` : `${reason} Next attempt now.`);
    if (ms <= 0) return;
    const { signal } = this.options;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      signal?.addEventListener("abort", done);
    });
    this.throwIfAborted();
  }
}

interface Exchange {
  readonly response: Response;
  readonly watch: SilenceWatch;
  readonly end: () => void;
}

class SilenceError extends SdxsError {
  constructor(url: string, silenceMs: number, what: string, cause: unknown) {
    super("FILE_FAILURE", `${url} has not ${what} for ${silenceMs / 1000} s.`, { cause });
  }
}

interface SilenceWatch {
  /** Aborted by silence, and by the caller's signal. */
  readonly signal: Signal;
  isSilent(): boolean;
  heard(): void;
  readonly end: () => void;
}

function watchSilence(limitMs: number, signal: Signal | undefined, onQuiet: (seconds: number) => void): SilenceWatch {
  const controller = new AbortController();
  const abort = (): void => controller.abort(signal?.reason);
  signal?.addEventListener("abort", abort);
  let isSilent = false;
  let parts = 0;
  const timer = setInterval(
    () => {
      if (++parts < PARTS_OF_SILENCE) {
        onQuiet(Math.round((parts * limitMs) / PARTS_OF_SILENCE / 100) / 10);
        return;
      }
      isSilent = true;
      controller.abort(new Error("silence"));
    },
    Math.min(limitMs / PARTS_OF_SILENCE, LONGEST_TIMER_MS),
  );
  return {
    signal: controller.signal,
    isSilent: () => isSilent,
    heard: () => {
      parts = 0;
    },
    end: () => {
      clearInterval(timer);
      signal?.removeEventListener("abort", abort);
    },
  };
}

/** Before attempt 1, 2, 3, ... after the first: 1, 2, 4, ... seconds: chosen. */
const backoffMs = (attempt: number): number => 1000 * 2 ** attempt;

/**
 * How long a server asks to be left alone, by its header Retry-After: seconds, or the date until then.
 *
 * @returns milliseconds from `now` on, undefined where it does not say
 */
export function retryAfterMs(header: string | null, now: number): number | undefined {
  if (header === null) return undefined;
  const ms = /^\s*\d+\s*$/.test(header) ? 1000 * Number(header) : Date.parse(header) - now;
  return Number.isNaN(ms) ? undefined : Math.max(0, ms);
}

/** Whether an address lies under another, which ends at the end of a name. */
const isUnder = (url: string, prefix: string): boolean => url.startsWith(prefix.endsWith("/") ? prefix : `${prefix}/`);

function busy(url: string, status: number, waitMs: number): SdxsError {
  const what = status === 429 ? "The server has had too many requests" : "The server is busy or down";
  const when = waitMs > LONGEST_WAIT_MS ? `It asks to be left alone for ${Math.ceil(waitMs / 1000)} s.` : "";
  return new SdxsError(
    "FILE_FAILURE",
    `${what}: it answers ${url} with status ${status}. ${when || "Try again later."}`,
  );
}

/** What to do about the codes of Node's errors. */
const ADVICE: readonly (readonly [codes: RegExp, advice: string])[] = [
  [/^(ENOTFOUND|EAI_AGAIN)$/, "The server's name is not known here: check the address and the connection."],
  [/^ECONNREFUSED$/, "Nothing answers at that port: check the address, and whether the server runs."],
  [
    /^(ENETUNREACH|EHOSTUNREACH|ETIMEDOUT|UND_ERR_CONNECT_TIMEOUT)$/,
    "Check the connection, or whether a proxy is needed.",
  ],
  [
    /CERT|SELF_SIGNED|UNABLE_TO_(VERIFY|GET_ISSUER)/,
    "Its certificate is not trusted here: check the date, or name your network's own certificate by NODE_EXTRA_CA_CERTS.",
  ],
];

/** What is at the bottom of "fetch failed", and what to do. */
export function reasonOf(error: unknown): string {
  const messages: string[] = [];
  const codes: string[] = [];
  // Node joins the failures of a server's several addresses.
  for (let at: unknown = error; at instanceof Error; at = at.cause ?? (at as { errors?: unknown[] }).errors?.[0]) {
    const code = "code" in at && typeof at.code === "string" ? at.code : undefined;
    if (code !== undefined) codes.push(code);
    const text = code === undefined || at.message.includes(code) ? at.message : `${at.message} (${code})`.trim();
    if (text !== "" && !messages.includes(text)) messages.push(text);
  }
  const what = messages.length > 0 ? messages.join(": ") : String(error);
  const advice = ADVICE.find(([known]) => codes.some((code) => known.test(code)))?.[1];
  const general = "Check the connection; a page may only fetch from servers that allow it (CORS).";
  return `${what}. ${advice ?? general}`;
}
