import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { mkdtemp, readdir, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { HostTensor, readJson, writeSafetensors } from "@sdxs/tensor";
import { afterAll, afterEach, beforeEach, describe, expect, it } from "vitest";
import { diskCache } from "./disk-cache.js";
import type { FileCache } from "./file-cache.js";
import { fetchModel } from "./fetch-pipeline.js";
import { reasonOf, retryAfterMs } from "./http-requests.js";
import { webFiles, type FetchOptions, type FetchProgress } from "./web-files.js";

const text = Buffer.from(
  '{ "sample_size": 64 }\n'
    .repeat(20_000)
    .replace(/\}\n\{/g, ",\n")
    .replace(/"\w+"/g, (m, i) => `"${i}"`),
);
const sha256 = createHash("sha256").update(text).digest("hex");
const gitSha1 = createHash("sha1").update(`blob ${text.length}\0`).update(text).digest("hex");
const md5 = createHash("md5").update(text).digest("base64");
const base64 = (algorithm: string): string => createHash(algorithm).update(text).digest("base64");
/** The same length, another byte in its middle. */
const changed = Buffer.from(text).fill("~", text.length / 2, text.length / 2 + 1);

type Answer = (request: IncomingMessage, response: ServerResponse) => void;
const servers: Server[] = [];
const root = mkdtempSync(join(tmpdir(), "sdxs-faults-"));
afterAll(() => rmSync(root, { recursive: true }));
afterEach(() => {
  for (const server of servers.splice(0)) server.close().closeAllConnections();
});

/** What a server was asked: "GET /config.json bytes=5-". */
let requests: string[] = [];
beforeEach(() => {
  requests = [];
});

async function serving(answer: Answer): Promise<string> {
  const server = createServer((request, response) => {
    const { method, url, headers } = request;
    requests.push([method, url, headers.range].filter((part) => part !== undefined).join(" "));
    answer(request, response);
  });
  servers.push(server);
  await once(server.listen(0, "127.0.0.1"), "listening");
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
}

/** Gives `content` with these headers, all of it. */
const giving =
  (content: Buffer | string, headers: Readonly<Record<string, string>> = {}): Answer =>
  ({ method }, response) =>
    void response
      .writeHead(200, { "content-length": Buffer.byteLength(content), ...headers })
      .end(method === "HEAD" ? undefined : content);

const read = (address: string, options: FetchOptions = {}) =>
  webFiles(new URL(address), options).readText("config.json");

/** Gives what the server has of `content`, as ranges too, and ends each answer as `end` does, from the given byte on. */
const breaking =
  (content: Buffer, afterBytes: number, end: (response: ServerResponse) => void, headers = {}): Answer =>
  ({ method, headers: asked }, response) => {
    const start = Number(/^bytes=(\d+)-/.exec(asked.range ?? "")?.[1] ?? 0);
    const range = start > 0 && { "content-range": `bytes ${start}-${content.length - 1}/${content.length}` };
    response.writeHead(start > 0 ? 206 : 200, { "content-length": content.length - start, ...headers, ...range });
    if (method === "HEAD") return void response.end();
    const part = content.subarray(start, start + afterBytes);
    if (start + part.length === content.length) return void response.end(part);
    response.write(part, () => end(response));
  };

describe("absence", () => {
  it.each([404, 410])("is status %i alone", async (status) => {
    const address = await serving((_, response) => void response.writeHead(status).end());
    expect(await webFiles(new URL(address)).list(["a.json", "b.json"])).toEqual([]);
  });

  it("is not a page, which is named with what it begins with", async () => {
    const address = await serving(
      giving("<!DOCTYPE html><title>Log in</title>", { "content-type": "text/html; charset=utf-8" }),
    );
    await expect(webFiles(new URL(address)).list(["a.json"])).rejects.toMatchObject({
      code: "MALFORMED_FILE",
      message: expect.stringContaining(
        `${address}a.json is a page of HTML, not the file: it begins with "<!DOCTYPE html><title>`,
      ),
    });
  });

  it("is not a text that is no JSON, whatever the server calls it", async () => {
    const address = await serving(giving("<html>", { "content-type": "application/json" }));
    await expect(readJson(webFiles(new URL(address)), "config.json")).rejects.toMatchObject({
      code: "MALFORMED_FILE",
      message: expect.stringContaining(
        `${address}config.json is not JSON: at line 1, column 1, expected a value, got "<html>"`,
      ),
    });
  });
});

describe("a busy server", () => {
  it.each([429, 503])("that answers with status %i is asked again when it says, with word of it", async (status) => {
    let times = 0;
    const address = await serving((request, response) => {
      if (++times <= 2) response.writeHead(status, { "retry-after": "0" }).end();
      else giving(text)(request, response);
    });
    const waiting: (string | undefined)[] = [];
    expect(await read(address, { onProgress: (progress) => waiting.push(progress.waiting) })).toBe(String(text));
    expect(
      waiting.filter((reason) => reason?.includes(`status ${status}. Try again later. Next attempt now.`)),
    ).toHaveLength(2);
    expect(waiting.at(-1)).toBeUndefined();
    expect(requests).toEqual(["HEAD /config.json", "HEAD /config.json", "HEAD /config.json", "GET /config.json"]);
  });

  it("is asked no more than so often", async () => {
    const address = await serving((_, response) => void response.writeHead(503, { "retry-after": "0" }).end());
    await expect(read(address, { retries: 3 })).rejects.toMatchObject({ code: "FILE_FAILURE" });
    expect(requests).toHaveLength(4);
  });

  it("that asks to be left alone for long is", async () => {
    const address = await serving((_, response) => void response.writeHead(429, { "retry-after": "3600" }).end());
    await expect(read(address)).rejects.toMatchObject({
      code: "FILE_FAILURE",
      message: expect.stringContaining("too many requests: it answers http") && expect.stringContaining("for 3600 s"),
    });
    expect(requests).toHaveLength(1);
  });

  it("is not waited for by who has stopped", async () => {
    const controller = new AbortController();
    const address = await serving((_, response) => {
      response.writeHead(429, { "retry-after": "50" }).end(() => setTimeout(() => controller.abort("enough"), 10));
    });
    await expect(read(address, { signal: controller.signal })).rejects.toMatchObject({
      code: "ABORTED",
      cause: "enough",
    });
  });

  it("says until when by seconds or by a date", () => {
    const now = Date.parse("2026-11-29T12:00:00Z");
    expect(retryAfterMs("7", now)).toBe(7000);
    expect(retryAfterMs("Sun, 29 Nov 2026 12:00:30 GMT", now)).toBe(30_000);
    expect(retryAfterMs("Sun, 29 Nov 2026 11:00:00 GMT", now)).toBe(0);
    expect(retryAfterMs("soon", now)).toBeUndefined();
    expect(retryAfterMs(null, now)).toBeUndefined();
  });
});

describe("a server that refuses", () => {
  it.each([401, 403])("by status %i is named, with what to do", async (status) => {
    const address = await serving((_, response) => void response.writeHead(status).end());
    await expect(read(address)).rejects.toMatchObject({
      code: "ACCESS_DENIED",
      message: expect.stringMatching(/refuses http.*config\.json \(status \d+\).*your token/),
    });
  });

  it("says of the hub's models that HF_TOKEN is needed, or that terms are to be accepted", async () => {
    const endpoint = await serving((_, response) => {
      response.writeHead(401, { "x-error-message": "Access to model owner/name is restricted" }).end();
    });
    const fetched = (options: FetchOptions) => fetchModel("owner/name", { endpoint, ...options });
    await expect(fetched({})).rejects.toMatchObject({
      code: "ACCESS_DENIED",
      message: expect.stringMatching(/restricted\).*Check the id owner\/name; .*HF_TOKEN, or the option token/),
    });
    await expect(fetched({ token: "hf_x" })).rejects.toMatchObject({
      code: "ACCESS_DENIED",
      message: expect.stringContaining(`terms are accepted at ${endpoint}owner/name`),
    });
  });

  it.each([400, 403, 405, 501])("HEAD by status %i is asked by GET", async (status) => {
    const address = await serving((request, response) => {
      if (request.method === "HEAD") response.writeHead(status).end();
      else if (request.url === "/absent.json") response.writeHead(404).end();
      else giving(text)(request, response);
    });
    const files = webFiles(new URL(address));
    expect(await files.list(["absent.json", "config.json"])).toEqual(["config.json"]);
    expect(await files.readText("config.json")).toBe(String(text));
  });
});

describe("bytes that changed on the way", () => {
  const tags: readonly (readonly [string, Readonly<Record<string, string>>])[] = [
    ["SHA-256 in the hub's ETag", { etag: `"${sha256}"`, "x-repo-commit": "1".repeat(40) }],
    ["SHA-256 in X-Linked-ETag", { "x-linked-etag": `"${sha256}"` }],
    ["git's SHA-1 in the hub's ETag", { etag: `W/"${gitSha1}"`, "x-repo-commit": "1".repeat(40) }],
    ["Content-MD5", { "content-md5": md5 }],
    ["Digest", { digest: `sha-256=${base64("sha256")}` }],
    ["Digest by MD5", { digest: `MD5=${md5}` }],
    ["Repr-Digest", { "repr-digest": `sha-512=:${base64("sha512")}:` }],
    ["Content-Digest", { "content-digest": `sha-256=:${base64("sha256")}:, unknown=:AAAA:` }],
  ];

  it.each(tags)("are found by %s", async (_, headers) => {
    expect(await read(await serving(giving(text, headers)))).toBe(String(text));
    await expect(read(await serving(giving(changed, headers)))).rejects.toMatchObject({
      code: "MALFORMED_FILE",
      message: expect.stringMatching(
        /config\.json arrived damaged: its .* is [0-9a-f]+, .* is [0-9a-f]+\. Fetch it again/,
      ),
    });
  });

  it("are found by the SHA-256 that the caller gives", async () => {
    const given = { "config.json": sha256.toUpperCase() };
    expect(await read(await serving(giving(text)), { sha256: given })).toBe(String(text));
    await expect(read(await serving(giving(changed)), { sha256: given })).rejects.toMatchObject({
      code: "MALFORMED_FILE",
      message: expect.stringContaining(`the option sha256 is ${sha256}`),
    });
    expect(() => webFiles(new URL("http://127.0.0.1/"), { sha256: { a: "12" } })).toThrow(/sha256\["a"\] must be 64/);
  });

  it("cannot hide behind a name that is not read", async () => {
    const files = webFiles(new URL(await serving(giving(text))), { sha256: { "confg.json": sha256 } });
    await files.readText("config.json");
    expect(() => files.checkAllRead()).toThrow(/sha256 names http.*confg\.json, which was not read/);
  });

  it("are found by their length", async () => {
    const longer: Answer = ({ method }, response) => {
      if (method === "HEAD") response.writeHead(200, { "content-length": text.length - 1 }).end();
      else response.write(text, () => response.end()); // in chunks, which no one counts
    };
    await expect(read(await serving(longer))).rejects.toMatchObject({
      code: "MALFORMED_FILE",
      message: expect.stringContaining(`has more than the ${text.length - 1} bytes`),
    });
  });

  it("are not looked for in what an ETag of another server says", async () => {
    expect(await read(await serving(giving(text, { etag: `"${"0".repeat(40)}"` })))).toBe(String(text));
  });
});

describe("what a cache keeps", () => {
  const kept = async (cache: FileCache, damage: (file: string) => Promise<void>, place: string) => {
    const address = await serving(giving(text, { etag: '"1"' }));
    await read(address, { cache });
    const [file] = (await readdir(place)).filter((name) => !name.endsWith(".json"));
    await damage(join(place, file!));
    requests = [];
    return address;
  };

  it("is fetched again where its SHA-256 is another than the noted one", async () => {
    const place = await mkdtemp(join(root, "cache-"));
    const cache = diskCache(place);
    const address = await kept(cache, (file) => writeFile(file, changed), place);
    expect(await read(address, { cache })).toBe(String(text));
    expect(requests).toEqual(["HEAD /config.json", "GET /config.json"]);
    expect(await read(address, { cache })).toBe(String(text));
    expect(requests).toEqual(["HEAD /config.json", "GET /config.json", "HEAD /config.json"]);
  });

  it("is refused where it is damaged and cannot be fetched", async () => {
    const place = await mkdtemp(join(root, "cache-"));
    const cache = diskCache(place);
    const address = await kept(cache, (file) => writeFile(file, changed), place);
    await expect(read(address, { cache, offline: true })).rejects.toMatchObject({
      code: "MALFORMED_FILE",
      message: expect.stringContaining(`What is kept of ${address}config.json was damaged since`),
    });
  });

  it("is compared with the SHA-256 that the caller gives", async () => {
    const place = await mkdtemp(join(root, "cache-"));
    const cache = diskCache(place);
    const address = await kept(cache, () => Promise.resolve(), place);
    expect(await read(address, { cache, sha256: { "config.json": sha256 } })).toBe(String(text));
    expect(requests).toEqual(["HEAD /config.json"]);
    const other = { "config.json": "0".repeat(64) };
    await expect(read(address, { cache, offline: true, sha256: other })).rejects.toMatchObject({
      code: "MALFORMED_FILE",
    });
  });

  it("tells what is absent, so that nothing is taken for it without the network", async () => {
    const cache = diskCache(await mkdtemp(join(root, "cache-")));
    const address = await serving((request, response) => {
      if (request.url === "/absent.json") response.writeHead(404).end();
      else giving(text)(request, response);
    });
    const names = ["absent.json", "config.json"];
    const online = webFiles(new URL(address), { cache });
    await online.list(names);
    await online.readText("config.json");
    requests = [];
    const offline = webFiles(new URL(address), { cache, offline: true });
    expect(await offline.list(names)).toEqual(["config.json"]);
    await expect(offline.list(["tokenizer_config.json"])).rejects.toMatchObject({
      code: "FILE_FAILURE",
      message: expect.stringContaining("tokenizer_config.json is not kept here, and the network is not to be used"),
    });
    expect(requests).toEqual([]);
  });

  it("stands for a server that fails, and not for one that refuses", async () => {
    const cache = diskCache(await mkdtemp(join(root, "cache-")));
    let status = 200;
    const address = await serving((request, response) => {
      if (status === 200) giving(text)(request, response);
      else response.writeHead(status, { "retry-after": "0" }).end();
    });
    await read(address, { cache });
    status = 503;
    expect(await read(address, { cache, retries: 0 })).toBe(String(text));
    status = 403;
    await expect(read(address, { cache })).rejects.toMatchObject({ code: "ACCESS_DENIED" });
  });
});

describe("a server that breaks off", () => {
  const half = Math.ceil(text.length / 2);
  const destroy = (response: ServerResponse): void => void response.destroy();

  it.each([
    ["by its ETag", { etag: '"1"' }, 2],
    ["by the hash that it tells", { digest: `sha-256=${base64("sha256")}` }, 2],
  ])("is asked for the rest, and only for it, where the file is known to be the same %s", async (_, headers, gets) => {
    const address = await serving(breaking(text, half, destroy, headers));
    const progress: FetchProgress[] = [];
    expect(await read(address, { onProgress: (now) => progress.push(now) })).toBe(String(text));
    expect(requests.filter((request) => request.startsWith("GET"))).toHaveLength(gets);
    expect(requests.at(-1)).toBe(`GET /config.json bytes=${half}-`);
    expect(progress.at(-1)).toMatchObject({ loaded: text.length, total: text.length });
    expect(progress.some(({ waiting }) => waiting?.includes(`broke off after ${half} of ${text.length} bytes`))).toBe(
      true,
    );
  });

  it("goes on also where the answer in between is a failure", async () => {
    let times = 0;
    const address = await serving((request, response) => {
      if (request.method === "GET") times++;
      if (times === 2) response.writeHead(500).end();
      else breaking(text, half, destroy, { etag: '"1"' })(request, response);
    });
    expect(await read(address)).toBe(String(text));
    expect(requests.slice(-2)).toEqual(new Array(2).fill(`GET /config.json bytes=${half}-`));
  });

  it("begins again where the file has changed since", async () => {
    let times = 0;
    const address = await serving((request, response) => {
      if (request.method === "HEAD") {
        giving(text)(request, response);
        return;
      }
      if (++times === 1) breaking(changed, half, destroy, { etag: '"1"' })(request, response);
      else if (request.headers["if-range"] === '"2"') breaking(text, half, destroy, { etag: '"2"' })(request, response);
      else giving(text, { etag: '"2"' })(request, response); // all of the other file, as If-Range asks for
    });
    expect(await read(address)).toBe(String(text));
    expect(times).toBe(2);
  });

  it("begins again where ranges come from another file, whatever If-Range says", async () => {
    let times = 0;
    const address = await serving((request, response) => {
      if (request.method !== "HEAD") times++;
      breaking(times === 1 ? changed : text, times === 3 ? text.length : half, destroy, { etag: `"${times}"` })(
        request,
        response,
      );
    });
    expect(await read(address)).toBe(String(text));
    expect(requests.at(-1)).toBe("GET /config.json");
  });

  it("is given up after so many answers without another byte", async () => {
    const address = await serving(breaking(text, 0, destroy, { etag: '"1"' }));
    await expect(read(address, { retries: 1 })).rejects.toMatchObject({
      code: "FILE_FAILURE",
      message: expect.stringMatching(/config\.json broke off after 0 of \d+ bytes\. Fetch it again\./),
    });
    expect(requests).toHaveLength(3); // HEAD and two times GET
  });
});

describe("a silent server", () => {
  const never = (): void => undefined;

  it("is given up in its head, with word of the wait", async () => {
    const address = await serving(never);
    const waiting: string[] = [];
    const options: FetchOptions = { silenceMs: 60, retries: 1, onProgress: (now) => waiting.push(now.waiting ?? "") };
    await expect(read(address, options)).rejects.toMatchObject({
      code: "FILE_FAILURE",
      message: expect.stringContaining(`${address}config.json has not answered for 0.06 s`),
    });
    expect(requests).toHaveLength(2);
    expect(waiting.filter((reason) => reason.startsWith("no answer for"))).toHaveLength(10);
    expect(waiting.filter((reason) => reason.includes("Next attempt now"))).toHaveLength(1);
  });

  it("is asked for the rest where it falls silent in the body", async () => {
    const address = await serving(breaking(text, Math.ceil(text.length / 3), never, { etag: '"1"' }));
    expect(await read(address, { silenceMs: 200 })).toBe(String(text));
    expect(requests.filter((request) => request.startsWith("GET"))).toEqual([
      "GET /config.json",
      `GET /config.json bytes=${Math.ceil(text.length / 3)}-`,
      `GET /config.json bytes=${2 * Math.ceil(text.length / 3)}-`,
    ]);
  });

  it("must have a limit that is one", () => {
    for (const silenceMs of [0, -1, NaN]) {
      expect(() => webFiles(new URL("http://127.0.0.1/"), { silenceMs })).toThrow(
        /silenceMs must be a positive number/,
      );
    }
    expect(() => webFiles(new URL("http://127.0.0.1/"), { retries: 0.5 })).toThrow(/retries must be a whole number/);
  });
});

describe("a token", () => {
  it("goes to the hub, and on a redirect to no other host", async () => {
    const seen: [string, string | undefined][] = [];
    const store = await serving((request, response) => {
      seen.push(["store", request.headers.authorization]);
      giving(text)(request, response);
    });
    const endpoint = await serving((request, response) => {
      seen.push(["hub", request.headers.authorization]);
      response.writeHead(302, { location: `${store}blob` }).end();
    });
    const address = `${endpoint}owner/name/resolve/main/`;
    expect(await read(address, { endpoint, token: "hf_secret" })).toBe(String(text));
    expect(seen.filter(([host]) => host === "hub").map(([, token]) => token)).toContain("Bearer hf_secret");
    expect(seen.filter(([host]) => host === "store").length).toBeGreaterThanOrEqual(2);
    for (const [host, token] of seen) expect(token).toBe(host === "hub" ? "Bearer hf_secret" : undefined);
    seen.length = 0;
    await read(store, { endpoint, token: "hf_secret" });
    expect(seen.every(([, token]) => token === undefined)).toBe(true);
  });

  it("is left to browsers to drop, which hide where a request is redirected to", async () => {
    const store = await serving(giving(text));
    const endpoint = await serving((_, response) => {
      response.writeHead(302, { location: `${store}blob` }).end();
    });
    const modes: unknown[] = [];
    const browsers: typeof fetch = async (input, init) => {
      modes.push(init?.redirect);
      if (init?.redirect === "follow") return fetch(input, init);
      return Object.defineProperty(Response.error(), "type", { value: "opaqueredirect" });
    };
    expect(await read(`${endpoint}owner/name/resolve/main/`, { fetch: browsers })).toBe(String(text));
    expect(modes).toEqual(["manual", "follow", "follow"]);
  });

  it("follows the hub's redirect to a store that does not know HEAD, and compares with what the hub linked", async () => {
    let content = text;
    const store = await serving((request, response) => {
      if (request.method === "HEAD") response.writeHead(403).end();
      else giving(content)(request, response);
    });
    const endpoint = await serving((_, response) => {
      const linked = { "x-linked-size": String(text.length), "x-linked-etag": `"${sha256}"` };
      response.writeHead(302, { location: `${store}blob`, ...linked }).end();
    });
    const address = `${endpoint}owner/name/resolve/main/`;
    expect(await read(address, { endpoint })).toBe(String(text));
    content = changed;
    await expect(read(address, { endpoint })).rejects.toMatchObject({ code: "MALFORMED_FILE" });
  });
});

describe("a safetensors file", () => {
  it("goes on where its answer broke off, and is compared with the caller's SHA-256", async () => {
    const file = Buffer.from(writeSafetensors({ a: HostTensor.filled([300_000], 0.5), b: HostTensor.filled([2], 3) }));
    let isFirst = true;
    const address = await serving((request, response) => {
      if (request.method === "GET" && isFirst) {
        isFirst = false; // for the header
        giving(file)(request, response);
        return;
      }
      breaking(file, 700_000, (answer) => answer.destroy(), { etag: '"1"' })(request, response);
    });
    const digest = createHash("sha256").update(file).digest("hex");
    const files = webFiles(new URL(address), { sha256: { "model.safetensors": digest } });
    const opened = await files.openSafetensors("model.safetensors");
    expect((await opened.read("b")).data).toEqual(Float32Array.of(3, 3));
    expect((await opened.read("a")).data.every((value) => value === 0.5)).toBe(true);
    expect(requests.at(-1)).toBe("GET /model.safetensors bytes=700000-");
    files.checkAllRead();
  });
});

describe("what keeps a server from being reached", () => {
  it("is told from the bottom of the error, with what to do", async () => {
    const address = await serving(() => undefined);
    servers.pop()!.close();
    await expect(read(address)).rejects.toMatchObject({
      code: "FILE_FAILURE",
      message: expect.stringMatching(
        /^Cannot reach http.*config\.json: fetch failed: connect ECONNREFUSED 127\.0\.0\.1:\d+\. Nothing answers/,
      ),
    });
  });

  it.each([
    [
      "ENOTFOUND",
      "getaddrinfo ENOTFOUND nowhere.invalid",
      /getaddrinfo ENOTFOUND nowhere\.invalid\. The server's name/,
    ],
    [
      "CERT_HAS_EXPIRED",
      "certificate has expired",
      /certificate has expired \(CERT_HAS_EXPIRED\)\. .*NODE_EXTRA_CA_CERTS/,
    ],
    ["UNABLE_TO_VERIFY_LEAF_SIGNATURE", "unable to verify", /LEAF_SIGNATURE\)\. .*NODE_EXTRA_CA_CERTS/],
    ["ECONNRESET", "read ECONNRESET", /read ECONNRESET\. Check the connection/],
  ])("is %s", (code, message, expected) => {
    const cause = Object.assign(new Error(message), { code });
    expect(reasonOf(new TypeError("fetch failed", { cause }))).toMatch(expected);
    // Node's for a name with several addresses.
    const all = Object.assign(new AggregateError([cause]), { code });
    expect(reasonOf(new TypeError("fetch failed", { cause: all }))).toMatch(expected);
  });
});
