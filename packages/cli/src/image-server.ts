import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { toPng, toRgba, type Pipeline } from "@sdxs/runtime";
import { InvalidArgumentError } from "@sdxs/tensor";
import { ApiError, invalid } from "./api-error.js";
import { parseImageRequest, sizeName, type ImageRequestLimits } from "./image-request.js";
import { turns } from "./turns.js";

export interface ImageServerOptions extends Pick<ImageRequestLimits, "sizes"> {
  readonly pipeline: Pick<Pipeline, "generate">;
  /** Pictures that one request may ask for. Default 4: chosen. */
  readonly maxImages?: number;
  /** Requests that may wait for the one that is drawn; more are refused by status 429. Default 16: chosen. */
  readonly maxWaiting?: number;
  /**
   * Names by which requests may call the server in their Host, beside localhost, 127.0.0.1, [::1], the host that it listens on and the
   * address that was connected to; "*": any. A page of another site could reach it by any name that leads here (DNS rebinding).
   */
  readonly hosts?: readonly string[];
  /** Called after each request: "POST /v1/images/generations 200 35 ms". */
  readonly log?: (line: string) => void;
}

export interface ImageServer {
  /** @param port 0: any that is free. Default host: 127.0.0.1, this machine alone. */
  listen(port: number, host?: string): Promise<{ readonly url: string }>;
  /**
   * Takes no more requests and resolves once those that it has are answered. Those that are not after `graceMs` (default 30,000)
   * are answered by status 503.
   */
  close(graceMs?: number): Promise<void>;
}

/** Chosen: sixteen bytes for each character of the longest prompt. */
const MAX_BODY_BYTES = 65536;
/** Chosen: time enough for such a body on a slow line, and no more for clients that hold a connection. */
const REQUEST_TIMEOUT_MS = 30_000;
/** For clients that do not read their answer: chosen, as above. */
const ANSWER_TIMEOUT_MS = 30_000;
/** The highest of TCP. */
export const MAX_PORT = 65535;
/** What this machine calls itself. */
const OWN_NAMES: readonly string[] = ["localhost", "127.0.0.1", "[::1]"];
/** What clients that do not read their answer get on top of the grace: chosen. */
const LAST_ANSWERS_MS = 1000;

/**
 * A pipeline behind the shape of OpenAI's images API: POST /v1/images/generations, and GET /health.
 *
 * One request is drawn at a time, picture after picture, with seeds that count up; a client that goes away is no longer
 * drawn for. There is no authentication and no TLS: on a network, put a proxy in front that does both.
 *
 * @example
 * const server = imageServer({ pipeline, sizes: [{ width: 512, height: 512 }] });
 * const { url } = await server.listen(8080);
 * process.once("SIGTERM", () => server.close());
 */
export function imageServer(options: ImageServerOptions): ImageServer {
  const { pipeline, sizes, maxImages = 4, maxWaiting = 16, hosts = [], log } = options;
  const names = new Set([...OWN_NAMES, ...hosts.map(hostName)]);
  const line = turns();
  const open = new Set<AbortController>();
  let isClosing = false;
  let pictureMs = 0; // of the newest

  const drawings = async (request: IncomingMessage, signal: AbortSignal): Promise<object> => {
    // Browsers send other types to any server without asking it.
    if (!/^application\/json\b/i.test(request.headers["content-type"] ?? "")) {
      const message = "The body must be of the content type application/json.";
      throw new ApiError(415, { message, code: "unsupported_media_type" });
    }
    const {
      prompt,
      n,
      size,
      seed,
      warnings: ignored,
    } = parseImageRequest(await readBody(request), { sizes, maxImages });
    if (line.running() && line.waiting() >= maxWaiting) {
      const seconds = Math.max(1, Math.ceil(((line.waiting() + 1) * pictureMs) / 1000));
      throw new ApiError(429, {
        message: `${line.waiting()} requests are waiting. Try again in ${seconds} s.`,
        code: "rate_limit_exceeded",
        headers: { "retry-after": `${seconds}` },
      });
    }
    return line.take(signal, async () => {
      const data: { b64_json: string; seed: number }[] = [];
      const told = new Set(ignored);
      for (let index = 0; index < n; index++) {
        const begin = performance.now();
        const { images, warnings } = await pipeline.generate(prompt, { seed: seed + index, ...size, signal });
        for (const warning of warnings) told.add(warning);
        const png = Buffer.from(await toPng(toRgba(images)[0]!));
        pictureMs = performance.now() - begin;
        data.push({ b64_json: png.toString("base64"), seed: seed + index });
      }
      for (const warning of told) log?.(`warning: ${warning}`);
      return { created: Math.floor(Date.now() / 1000), data, ...(told.size > 0 && { warnings: [...told] }) };
    });
  };

  const routes: Readonly<Record<string, (request: IncomingMessage, signal: AbortSignal) => Promise<object>>> = {
    "POST /v1/images/generations": drawings,
    "GET /health": async () => ({
      status: "ok",
      drawing: line.running(),
      waiting: line.waiting(),
      sizes: sizes.map(sizeName),
    }),
  };

  const answer = async (request: IncomingMessage, signal: AbortSignal): Promise<object> => {
    if (isClosing) throw stopping();
    checkHost(request);
    const [path = ""] = (request.url ?? "").split("?");
    const route = `${request.method} ${path}`;
    const handler = Object.hasOwn(routes, route) ? routes[route] : undefined;
    if (handler !== undefined) return handler(request, signal);
    const allow = Object.keys(routes).filter((known) => known.endsWith(` ${path}`));
    if (allow.length === 0) throw new ApiError(404, { message: `There is no ${path}.`, code: "not_found" });
    const [method = ""] = (allow[0] ?? "").split(" ");
    const message = `${path} takes ${method}.`;
    throw new ApiError(405, { message, code: "method_not_allowed", headers: { allow: method } });
  };

  const checkHost = ({ headers: { host }, socket: { localAddress = "" } }: IncomingMessage): void => {
    if (host === undefined || names.has("*")) return; // a page's requests have one
    const name = hostName(host);
    if (names.has(name) || name === addressName(localAddress)) return;
    throw new ApiError(403, {
      message: `This server does not answer by the name ${JSON.stringify(name)}. Start it with --allow-host ${name} if it is its own.`,
      code: "host_not_allowed",
    });
  };

  const server = createServer({ requestTimeout: REQUEST_TIMEOUT_MS }, (request, response) => {
    const begin = performance.now();
    const controller = new AbortController();
    open.add(controller);
    response.once("close", () => {
      open.delete(controller);
      if (!response.writableFinished) controller.abort();
      if (isClosing) closeUnused();
      const status = response.writableFinished ? response.statusCode : "closed by the client";
      log?.(`${request.method} ${request.url} ${status} ${Math.round(performance.now() - begin)} ms`);
    });
    answer(request, controller.signal).then(
      (body) => {
        if (!response.destroyed) send(response, 200, body);
      },
      (error: unknown) => {
        if (response.destroyed) return; // the client is gone
        const failure = controller.signal.aborted ? stopping() : asApiError(error);
        if (failure.status === 500) log?.(error instanceof Error ? (error.stack ?? error.message) : String(error));
        send(response, failure.status, failure, failure.details.headers);
      },
    );
  });

  /** Once all is answered, connections that have not asked for anything yet need not be waited for. */
  const closeUnused = (): void => {
    if (open.size === 0) server.closeAllConnections();
  };

  const send = (response: ServerResponse, status: number, body: object, headers = {}): void => {
    response.setTimeout(ANSWER_TIMEOUT_MS, () => response.destroy());
    const closing = isClosing && { connection: "close" };
    response.writeHead(status, { "content-type": "application/json", ...headers, ...closing });
    response.end(JSON.stringify(body));
  };

  return {
    listen: (port, host = "127.0.0.1") =>
      new Promise((resolve, reject) => {
        if (!Number.isInteger(port) || port < 0 || port > MAX_PORT) {
          throw new InvalidArgumentError(`listen: port must be a whole number from 0 to ${MAX_PORT}, got ${port}.`);
        }
        names.add(hostName(host));
        server.once("error", reject).listen(port, host, () => {
          const { address, port: actual } = server.address() as AddressInfo;
          resolve({ url: `http://${addressName(address)}:${actual}` });
        });
      }),
    async close(graceMs = 30_000) {
      isClosing = true;
      const closed = new Promise((resolve) => server.close(resolve));
      closeUnused();
      const timers = [
        setTimeout(() => {
          for (const controller of open) controller.abort();
        }, graceMs),
        setTimeout(() => server.closeAllConnections(), graceMs + LAST_ANSWERS_MS),
      ];
      await closed;
      timers.forEach(clearTimeout);
    },
  };
}

/** The name in a Host, without its port, as URLs write it. */
function hostName(host: string): string {
  const text = host.includes(":") && !/[[.]|:\d+$/.test(host) ? `[${host}]` : host;
  return URL.canParse(`http://${text}`) ? new URL(`http://${text}`).hostname.replace(/\.$/, "") : host;
}

/** An address as URLs write it. */
function addressName(address: string): string {
  const plain = address.replace(/^::ffff:(?=\d+\.)/, "");
  return plain.includes(":") ? `[${plain}]` : plain;
}

const stopping = (): ApiError =>
  new ApiError(503, { message: "The server is stopping.", code: "stopping", headers: { "retry-after": "5" } });

/** Codes of the pipeline's errors that the client can correct. */
const CLIENTS_ERRORS: readonly unknown[] = ["INVALID_ARGUMENT", "UNKNOWN_WORD"];

function asApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  if (error instanceof Error && CLIENTS_ERRORS.includes(code)) return invalid("prompt", error.message);
  return new ApiError(500, { message: "Drawing failed. The server's log says more.", code: "internal_error" });
}

/** The rest of a body that is too large is read and dropped, so that the client hears of it. */
async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes <= MAX_BODY_BYTES) chunks.push(chunk);
    else chunks.length = 0;
  }
  if (bytes > MAX_BODY_BYTES) {
    const message = `The body must have at most ${MAX_BODY_BYTES} bytes, got ${bytes}.`;
    throw new ApiError(413, { message, code: "body_too_large" });
  }
  return Buffer.concat(chunks).toString("utf8");
}
