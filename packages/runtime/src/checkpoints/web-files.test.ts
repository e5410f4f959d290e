import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { mkdtemp, readFile, readdir, truncate } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { writeSafetensors } from "@sdxs/tensor";
import { diskCache } from "./disk-cache.js";
import { fetchModel, fetchPipeline } from "./fetch-pipeline.js";
import type { FileCache } from "./file-cache.js";
import { loadModel } from "./model-folder.js";
import { layOut, modelCases } from "./model-folder.test-support.js";
import type { Model } from "./open-model.js";
import { loadPipelineFolder, savePipelineFolder } from "./pipeline-folder.js";
import { loadTokenizer } from "../clip/tokenizer.js";
import { addressOf } from "./hub.js";
import type { FetchProgress } from "./web-files.js";

const root = mkdtempSync(join(tmpdir(), "sdxs-web-"));
const folder = join(root, "pipeline");

type Answer = (response: ServerResponse, content: Buffer, request: IncomingMessage) => void;
const asItIs: Answer = (response, content, { method }) => {
  response.setHeader("etag", `"${content.length}"`).setHeader("content-length", content.length);
  response.end(method === "HEAD" ? undefined : content);
};
/** In place of the file: a test's own answers, by the end of the path. */
const answers = new Map<string, Answer>();
const requests: string[] = [];
let server: Server;
let address: string;

beforeAll(async () => {
  const vocab = { a: 0, "a</w>": 1, "<|startoftext|>": 2, "<|endoftext|>": 3 };
  const [unet, controlNet, , vae, textEncoder] = modelCases;
  for (const [name, golden] of Object.entries({ unet, vae, text_encoder: textEncoder, controlnet: controlNet })) {
    await layOut(join(root, name), golden);
  }
  const net = await loadModel(join(root, "controlnet"), { className: "ControlNetModel" });
  await savePipelineFolder(folder, {
    components: {
      unet: await loadModel(join(root, "unet"), { className: "UNet2DConditionModel" }),
      vae: await loadModel(join(root, "vae"), { className: "AutoencoderTiny" }),
      text_encoder: await loadModel(join(root, "text_encoder"), { className: "CLIPTextModel" }),
      controlnet: [net, net],
      tokenizer: loadTokenizer({ vocab, merges: "", tokenizerConfig: { model_max_length: 77 } }),
      scheduler: { _class_name: "DEISMultistepScheduler" },
    },
  });
  server = createServer((request, response) => {
    const path = new URL(request.url ?? "/", "http://localhost").pathname;
    requests.push(`${request.method} ${path}`);
    void readFile(join(root, decodeURIComponent(path))).then(
      (content) => {
        const answer = [...answers].find(([end]) => path.endsWith(end))?.[1];
        (answer ?? asItIs)(response, content, request);
      },
      () => response.writeHead(404).end("Not found"),
    );
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  address = `http://127.0.0.1:${(server.address() as AddressInfo).port}/pipeline`;
});
afterAll(() => {
  server.close();
  server.closeAllConnections();
  rmSync(root, { recursive: true });
});
beforeEach(() => {
  answers.clear();
  requests.length = 0;
});

/** Compares bytes, which is quicker than tensor by tensor. */
function expectSame(actual: Model | undefined, expected: Model | undefined): void {
  const { params, ...described } = actual!;
  const { params: expectedParams, ...expectedDescribed } = expected!;
  expect(described).toEqual(expectedDescribed);
  expect(Buffer.compare(writeSafetensors(params), writeSafetensors(expectedParams))).toBe(0);
}

const gets = (): string[] => requests.filter((request) => request.startsWith("GET"));
const weights = "unet/diffusion_pytorch_model.safetensors";

describe("fetchPipeline", () => {
  it("loads what loadPipelineFolder loads, and counts the bytes", async () => {
    const progress: FetchProgress[] = [];
    const fetched = await fetchPipeline(address, { onProgress: (now) => progress.push(now) });
    const loaded = await loadPipelineFolder(folder);
    for (const name of ["unet", "vae", "text_encoder"] as const) {
      expectSame(fetched.components[name], loaded.components[name]);
    }
    for (const index of [0, 1])
      expectSame(fetched.components.controlnet?.[index], loaded.components.controlnet?.[index]);
    expect(fetched.components.controlnet).toHaveLength(2);
    expect(fetched.components.scheduler).toEqual(loaded.components.scheduler);
    expect(fetched.components.tokenizer?.encode("a")).toEqual(loaded.components.tokenizer?.encode("a"));

    const last = progress.at(-1)!;
    expect(last.loaded).toBe(last.total);
    const weightBytes = (await readFile(join(folder, weights))).length;
    const ofUnet = progress.filter(({ file }) => file === `${address}/${weights}`);
    const before = progress[progress.indexOf(ofUnet[0]!) - 1]!;
    expect(ofUnet.at(-1)!.loaded - before.loaded).toBe(weightBytes);
    expect(ofUnet.every(({ total }) => total === last.total)).toBe(true); // settled before weights arrive
  });

  it("fetches no weights where a component does not fit, and lists what is missing", async () => {
    answers.set("vae/config.json", (response) => response.writeHead(404).end());
    const refusal = fetchPipeline(address);
    await expect(refusal).rejects.toMatchObject({
      code: "MISSING_FILE",
      message: expect.stringContaining(`- There is no ${address}/vae/config.json`),
    });
    expect(gets().filter((request) => request.endsWith(weights))).toHaveLength(1); // the header
  });

  it("fetches no weights where the scheduler is not supported, unless another is to take its place", async () => {
    const asFlowMatch: Answer = (response) => response.end('{ "_class_name": "FlowMatchEulerDiscreteScheduler" }');
    answers.set("model_index.json", (response, content, { method }) => {
      const index = String(content).replace("DEISMultistepScheduler", "FlowMatchEulerDiscreteScheduler");
      response.end(method === "HEAD" ? undefined : index);
    });
    answers.set("scheduler_config.json", asFlowMatch);
    const only = ["scheduler", "unet"] as const;
    await expect(fetchPipeline(address, { only })).rejects.toMatchObject({
      code: "UNSUPPORTED_CONFIG",
      message: expect.stringMatching(/scheduler_config\.json: .*FlowMatchEulerDiscreteScheduler/),
    });
    expect(gets().filter((request) => request.endsWith(weights))).toHaveLength(1); // the header
    const { components } = await fetchPipeline(address, { only, scheduler: "EulerDiscreteScheduler" });
    expect(components.scheduler._class_name).toBe("FlowMatchEulerDiscreteScheduler");
    expect((await fetchPipeline(address, { only: ["scheduler"] })).components.scheduler).toBeDefined();
  });

  it("stops at the first file that a server fails to give", async () => {
    answers.set("config.json", (response) => response.writeHead(500).end());
    await expect(fetchPipeline(address)).rejects.toMatchObject({
      code: "FILE_FAILURE",
      message: expect.stringMatching(/^The server failed to give http.*config\.json \(status 500\)/),
    });
    expect(requests.filter((request) => request.endsWith("/config.json"))).toHaveLength(1);
  });

  it("says where there is no pipeline, also of a server that answers all with its page", async () => {
    await expect(fetchPipeline(`${address}/nowhere`)).rejects.toMatchObject({
      code: "MISSING_FILE",
      message: expect.stringContaining(`There is no ${address}/nowhere/model_index.json`),
    });
    answers.set("", (response) => response.setHeader("content-type", "text/html").end("<html>"));
    await expect(fetchPipeline(address)).rejects.toMatchObject({
      code: "MALFORMED_FILE",
      message: expect.stringContaining(
        `${address}/model_index.json is a page of HTML, not the file: it begins with "<html>"`,
      ),
    });
  });

  it.each([
    [403, "ACCESS_DENIED", /refuses .*\/vae\/.* \(status 403\).*token/],
    [500, "FILE_FAILURE", /failed to give .*\/vae\/.* \(status 500\)/],
  ])("names the file and the status %i", async (status, code, message) => {
    answers.set("vae/diffusion_pytorch_model.safetensors", (response) => response.writeHead(status).end());
    await expect(fetchPipeline(address, { only: ["vae"] })).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
    });
  });

  const asPage: Answer = (response) => response.setHeader("content-type", "text/html").end("<!DOCTYPE html>Sign in");
  const asStatus =
    (status: number): Answer =>
    (response) =>
      response.writeHead(status, { "retry-after": "0" }).end();
  const optional = ["tokenizer/tokenizer_config.json", "tokenizer/special_tokens_map.json", "vae/config.json"];

  it.each(
    optional.flatMap((file) => [
      [file, "status 403", "ACCESS_DENIED", asStatus(403)] as const,
      [file, "status 429", "FILE_FAILURE", asStatus(429)] as const,
      [file, "status 503", "FILE_FAILURE", asStatus(503)] as const,
      [file, "a page", "MALFORMED_FILE", asPage] as const,
    ]),
  )("does not take %s for absent where the server answers with %s", async (file, _, code, answer) => {
    answers.set(file, answer);
    await expect(fetchPipeline(address, { only: ["tokenizer", "vae"], retries: 1 })).rejects.toMatchObject({
      code,
      message: expect.stringContaining(`${address}/${file}`),
    });
  });

  it("names the server that cannot be reached", async () => {
    await expect(fetchPipeline("http://127.0.0.1:9/")).rejects.toMatchObject({
      code: "FILE_FAILURE",
      message: expect.stringContaining("Cannot reach http://127.0.0.1:9/model_index.json"),
    });
    await expect(fetchPipeline("nonsense")).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  });

  it("reads files that come compressed or without their length", async () => {
    const asStream: Answer = (response, content) => response.write(content, () => response.end());
    answers.set(weights, asStream);
    answers.set("vocab.json", asStream);
    const { components } = await fetchPipeline(address, { only: ["unet", "tokenizer"] });
    expectSame(components.unet, await loadModel(join(folder, "unet")));
    expect(components.tokenizer.endId).toBe(3);
  });
});

describe("fetchModel", () => {
  const unet = (options = {}) => fetchModel(`${address}/unet`, { className: "UNet2DConditionModel", ...options });

  it("loads a folder, or a file with its configuration", async () => {
    const expected = await loadModel(join(folder, "unet"));
    expectSame(await unet(), expected);
    const config: unknown = JSON.parse(await readFile(join(folder, "unet/config.json"), "utf8"));
    expectSame(await fetchModel(`${address}/${weights}`, { config }), expected);
  });

  /** Gives the header, as it is asked for first, and at the second time half of the file. */
  function halfAtSecond(end: (response: ServerResponse) => void): Answer {
    let times = 0;
    return (response, content, { method }) => {
      response.setHeader("content-length", content.length);
      if (method === "HEAD") return response.end();
      if (++times === 1) return response.end(content);
      response.write(content.subarray(0, content.length / 2), () => end(response));
    };
  }

  it("says where the connection broke", async () => {
    answers.set(
      weights,
      halfAtSecond((response) => response.destroy()),
    );
    await expect(unet({ retries: 0 })).rejects.toMatchObject({
      code: "FILE_FAILURE",
      message: expect.stringMatching(
        /unet\/diffusion_pytorch_model\.safetensors broke off after \d+.* bytes\. Fetch it again/,
      ),
    });
  });

  it("refuses a file that is shorter than the server said", async () => {
    answers.set(weights, (response, content, { method }) => {
      if (method === "HEAD") response.setHeader("content-length", content.length).end();
      else response.end(content.subarray(0, 300_000)); // in chunks, which no one counts
    });
    await expect(unet({ retries: 0 })).rejects.toMatchObject({
      code: "FILE_FAILURE",
      message: expect.stringMatching(/broke off after 300000 of \d+ bytes/),
    });
  });

  it("refuses what is no safetensors file before it fetches all", async () => {
    answers.set(weights, (response, content) => response.end(Buffer.alloc(content.length, 0xff)));
    await expect(unet()).rejects.toMatchObject({
      code: "MALFORMED_FILE",
      message: expect.stringMatching(/unet\/diffusion_pytorch_model\.safetensors: safetensors: the header claims/),
    });
  });

  it("stops in the middle of a file", async () => {
    const controller = new AbortController();
    answers.set(
      weights,
      halfAtSecond(() => controller.abort("enough")),
    );
    await expect(unet({ signal: controller.signal })).rejects.toMatchObject({ code: "ABORTED", cause: "enough" });
    await expect(unet({ signal: controller.signal })).rejects.toMatchObject({ code: "ABORTED" });
  });
});

describe("a model of the hub", () => {
  const resolved = "https://huggingface.co/owner/name/resolve/main/";
  /** The test's server in place of the hub, whose list has this digest of the weights. */
  const hub =
    (digest: string | undefined): typeof fetch =>
    (input, init) => {
      const { url } = new Request(input);
      if (url === "https://huggingface.co/api/models/owner/name/tree/main?recursive=true") {
        if (digest === undefined) return Promise.resolve(new Response("", { status: 404 }));
        return Promise.resolve(Response.json([{ path: weights, lfs: { oid: digest } }, { path: "README.md" }]));
      }
      expect(url.startsWith(resolved)).toBe(true);
      return fetch(url.replace(resolved, `${address}/`), init);
    };
  const unet = async (digest: string | undefined, cache: FileCache | false = false) =>
    (await fetchPipeline("owner/name", { only: ["unet"], fetch: hub(digest), cache })).components.unet;

  it("is compared with the SHA-256 that the hub lists, where it lists one", async () => {
    const expected = await loadModel(join(folder, "unet"));
    const digest = createHash("sha256")
      .update(await readFile(join(folder, weights)))
      .digest("hex");
    expectSame(await unet(digest), expected);
    expectSame(await unet(undefined), expected);
  });

  it("is refused where it differs, and not kept", async () => {
    const cache = memoryCache();
    await expect(unet("0".repeat(64), cache)).rejects.toMatchObject({
      code: "MALFORMED_FILE",
      message: expect.stringMatching(
        /safetensors arrived damaged: its SHA-256 is [0-9a-f]{64}, what the hub lists is 0+\./,
      ),
    });
    expect(await cache.get(`${resolved}${weights}`)).toBeUndefined();
  });
});

/** The contract of the browser's, in memory. */
function memoryCache(): FileCache {
  const kept = new Map<string, { bytes: Uint8Array | null; version: string | null }>();
  return {
    async get(url) {
      const file = kept.get(url);
      if (file === undefined) return undefined;
      const { bytes, version } = file;
      if (bytes === null) return null;
      return { version, size: bytes.length, read: async (at, length) => bytes.subarray(at, at + length) };
    },
    async put(url, bytes, version) {
      kept.set(url, { bytes, version });
    },
  };
}

describe.each([
  ["in memory", () => memoryCache()],
  ["diskCache", async () => diskCache(await mkdtemp(join(root, "cache-")))],
])("a cache: %s", (_, newCache) => {
  it("gives everything back without another GET, even without the server", async () => {
    const cache = await newCache();
    const first = await fetchPipeline(address, { cache });
    requests.length = 0;
    const progress: FetchProgress[] = [];
    const second = await fetchPipeline(address, { cache, onProgress: (now) => progress.push(now) });
    expect(gets()).toEqual([]);
    expectSame(second.components.unet, first.components.unet);
    expect(progress.at(-1)!.loaded).toBe(progress.at(-1)!.total);
    const offline = () => Promise.reject(new TypeError("fetch failed"));
    const third = await fetchPipeline(address, { cache, fetch: offline });
    expectSame(third.components.unet, first.components.unet);
  });

  it("is not asked where the server has another version or size, or has none now", async () => {
    const cache = await newCache();
    await fetchPipeline(address, { cache, only: ["unet"] });
    requests.length = 0;
    answers.set(weights, (response, content) => response.setHeader("etag", '"new"').end(content));
    await fetchPipeline(address, { cache, only: ["unet"] });
    expect(gets().every((request) => request.endsWith(weights))).toBe(true);
    expect(gets()).not.toEqual([]);
    answers.set(weights, (response) => response.writeHead(404).end());
    await expect(fetchPipeline(address, { cache, only: ["unet"] })).rejects.toMatchObject({ code: "MISSING_FILE" });
  });
});

it("diskCache does not give out a file that was cut off", async () => {
  const place = await mkdtemp(join(root, "cache-"));
  const cache = diskCache(place);
  await cache.put("https://a/b", Uint8Array.of(1, 2, 3), "v");
  const kept = await cache.get("https://a/b");
  expect(kept).toMatchObject({ size: 3, version: "v" });
  expect(await kept!.read(1, 2, new Uint8Array(2))).toEqual(Uint8Array.of(2, 3));
  const file = (await readdir(place)).find((name) => !name.endsWith(".json"))!;
  await truncate(join(place, file), 2);
  expect(await cache.get("https://a/b")).toBeUndefined();
});

it.each([
  ["owner/name", undefined, "https://huggingface.co/owner/name/resolve/main/"],
  ["owner/name-1.5", "refs/pr/1", "https://huggingface.co/owner/name-1.5/resolve/refs%2Fpr%2F1/"],
  ["https://example.org/models/sdxs", "v2", "https://example.org/models/sdxs/"],
  [new URL("https://example.org/a.safetensors"), undefined, "https://example.org/a.safetensors"],
])("addressOf %s at %s", (source, revision, address) => {
  expect(addressOf(source, revision).href).toBe(address);
});
