import { once } from "node:events";
import { request as httpRequest } from "node:http";
import { createPipeline, toRgba, type GenerateOptions, type GeneratedImages } from "@sdxs/runtime";
import { HostTensor, SdxsError } from "@sdxs/tensor";
import { onnxBackend } from "@sdxs/tensor/onnx";
import * as ort from "onnxruntime-node";
import sharp from "sharp";
import { afterEach, describe, expect, it } from "vitest";
import { tinyPipeline } from "../../runtime/src/pipeline/tiny-pipeline.test-support.js";
import { imageServer, type ImageServer, type ImageServerOptions } from "./image-server.js";

const size = { width: 12, height: 8 };
let server: ImageServer | undefined;
afterEach(() => server?.close(0));

async function start(options: Pick<ImageServerOptions, "pipeline"> & Partial<ImageServerOptions>): Promise<string> {
  server = imageServer({ sizes: [size], ...options });
  return (await server.listen(0)).url;
}

const post = (url: string, body: unknown, options: RequestInit = {}): Promise<Response> =>
  fetch(`${url}/v1/images/generations`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: typeof body === "string" ? body : JSON.stringify(body),
    ...options,
  });

interface Answer {
  readonly created: number;
  readonly data: readonly { readonly b64_json: string; readonly seed: number }[];
}

/** A pipeline whose pictures are ready when they are told to. */
function slowPipeline() {
  const drawings: { readonly prompt: string; readonly finish: () => void; readonly signal: AbortSignal }[] = [];
  const generate = (prompt: string | readonly string[], { signal }: GenerateOptions = {}): Promise<GeneratedImages> =>
    new Promise((resolve, reject) => {
      const times = { textEncoder: 0, unet: 0, decoder: 0 };
      const images = HostTensor.filled([1, 3, size.height, size.width], 0);
      drawings.push({
        prompt: String(prompt),
        finish: () => resolve({ images, times, warnings: [] }),
        signal: signal!,
      });
      signal!.addEventListener("abort", () => reject(new SdxsError("ABORTED", "generate: aborted.")));
    });
  return { drawings, generate };
}

/** Waits for what comes about by events. */
async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 2));
}

const waiting = async (url: string): Promise<unknown> =>
  ((await (await fetch(`${url}/health`)).json()) as { waiting: number }).waiting;

describe("imageServer", () => {
  it("answers with the pictures that the pipeline draws, of seeds that count up", async () => {
    const pipeline = createPipeline({ components: tinyPipeline, backend: onnxBackend({ ort }) });
    const url = await start({ pipeline });
    const response = await post(url, { prompt: "red", n: 2, seed: 7, size: "12x8" });
    const { created, data } = (await response.json()) as Answer;
    expect(response.status).toBe(200);
    expect(Math.abs(created - Date.now() / 1000)).toBeLessThan(60);
    expect(data.map(({ seed }) => seed)).toEqual([7, 8]);
    for (const { b64_json: picture, seed } of data) {
      const pixels = await sharp(Buffer.from(picture, "base64")).ensureAlpha().raw().toBuffer();
      const { images } = await pipeline.generate("red", { seed });
      expect(new Uint8ClampedArray(pixels)).toEqual(toRgba(images)[0]?.data);
    }
    await pipeline.dispose();
  });

  it("lets a bounded number of requests wait, and tells the others when to come again", async () => {
    const pipeline = slowPipeline();
    const url = await start({ pipeline, maxWaiting: 2 });
    const answers = [post(url, { prompt: "first" })];
    await until(() => pipeline.drawings.length === 1);
    for (const prompt of ["second", "third"]) {
      answers.push(post(url, { prompt }));
      await until(async () => (await waiting(url)) === answers.length - 1);
    }
    const refused = await post(url, { prompt: "fourth" });
    expect(refused.status).toBe(429);
    expect(Number(refused.headers.get("retry-after"))).toBeGreaterThanOrEqual(1);
    expect(await refused.json()).toMatchObject({ error: { code: "rate_limit_exceeded", param: null } });
    for (const count of [1, 2, 3]) {
      await until(() => pipeline.drawings.length === count);
      pipeline.drawings.at(-1)?.finish();
    }
    expect((await Promise.all(answers)).map(({ status }) => status)).toEqual([200, 200, 200]);
    expect(pipeline.drawings.map(({ prompt }) => prompt)).toEqual(["first", "second", "third"]);
  });

  it("stops drawing for clients that go away, and lets them leave the line", async () => {
    const pipeline = slowPipeline();
    const lines: string[] = [];
    const url = await start({ pipeline, log: (line) => lines.push(line) });
    const [drawn, inLine] = [new AbortController(), new AbortController()];
    const leave = (prompt: string, signal: AbortSignal) =>
      expect(post(url, { prompt }, { signal })).rejects.toThrow(/abort/);
    const gone = [leave("drawn", drawn.signal)];
    await until(() => pipeline.drawings.length === 1);
    gone.push(leave("in line", inLine.signal));
    await until(async () => (await waiting(url)) === 1);
    const staying = post(url, { prompt: "staying" });
    await until(async () => (await waiting(url)) === 2);
    inLine.abort();
    await until(async () => (await waiting(url)) === 1);
    drawn.abort();
    await until(() => pipeline.drawings.length === 2);
    expect(pipeline.drawings[0]?.signal.aborted).toBe(true);
    pipeline.drawings[1]?.finish();
    expect((await staying).status).toBe(200);
    expect(pipeline.drawings.map(({ prompt }) => prompt)).toEqual(["drawn", "staying"]);
    await Promise.all(gone);
    expect(lines.filter((line) => line.includes("closed by the client"))).toHaveLength(2);
  });

  it("tells what is wrong with a request as OpenAI's API does", async () => {
    const url = await start({ pipeline: slowPipeline() });
    const health = `${url}/health`;
    const cases: readonly (readonly [Promise<Response>, number, object])[] = [
      [post(url, { prompt: "red", n: 99 }), 400, { code: "invalid_value", param: "n" }],
      [post(url, "{"), 400, { code: "invalid_json", param: null }],
      [post(url, `{"prompt":"${"x".repeat(2 ** 20)}"}`), 413, { code: "body_too_large" }],
      [post(url, "{}", { headers: { "content-type": "text/plain" } }), 415, { code: "unsupported_media_type" }],
      [fetch(`${url}/v1/models`), 404, { code: "not_found" }],
      [fetch(health, { method: "POST" }), 405, { code: "method_not_allowed" }],
    ];
    for (const [answer, status, error] of cases) {
      const response = await answer;
      expect(response.status).toBe(status);
      expect(await response.json()).toMatchObject({
        error: { type: "invalid_request_error", message: expect.any(String), ...error },
      });
    }
    expect((await fetch(`${url}/v1/images/generations`)).headers.get("allow")).toBe("POST");
    expect((await fetch(health)).status).toBe(200);
  });

  it("answers by its own names alone, so that no page reaches it by another (DNS rebinding)", async () => {
    const url = new URL(await start({ pipeline: slowPipeline(), hosts: ["Pictures.example"] }));
    const ask = (host: string): Promise<{ readonly status: number; readonly body: string }> =>
      new Promise((resolve, reject) => {
        const { port, hostname } = url;
        const request = httpRequest({ port, hostname, path: "/health", headers: { host } }, (response) => {
          const chunks: Buffer[] = [];
          response.on("data", (chunk: Buffer) => chunks.push(chunk));
          response.on("end", () =>
            resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString() }),
          );
        });
        request.on("error", reject).end();
      });
    for (const host of [
      "localhost",
      "LOCALHOST:80",
      `127.0.0.1:${url.port}`,
      "[::1]:1",
      "pictures.example",
      "pictures.example.:443",
    ]) {
      expect((await ask(host)).status).toBe(200);
    }
    for (const host of ["evil.example", "localhost.evil.example", "192.168.1.5", "127.0.0.1.evil.example:8080"]) {
      const { status, body } = await ask(host);
      expect([host, status]).toEqual([host, 403]);
      expect(JSON.parse(body)).toMatchObject({
        error: {
          type: "invalid_request_error",
          code: "host_not_allowed",
          param: null,
          message: expect.stringContaining("--allow-host"),
        },
      });
    }
  });

  it("answers by the address that was connected to, where it listens on all", async () => {
    server = imageServer({ sizes: [size], pipeline: slowPipeline() });
    const { url } = await server.listen(0, "0.0.0.0");
    expect((await fetch(`${url.replace("0.0.0.0", "127.0.0.2")}/health`)).status).toBe(200);
  });

  it("answers by any name where it is told so", async () => {
    const url = new URL(await start({ pipeline: slowPipeline(), hosts: ["*"] }));
    const request = httpRequest({ port: url.port, path: "/health", headers: { host: "any.example" } }).end();
    const status = await new Promise((resolve) =>
      request.once("response", (response) => resolve(response.resume().statusCode)),
    );
    expect(status).toBe(200);
  });

  it("tells what had no effect in the answer and in its log", async () => {
    const lines: string[] = [];
    const times = { textEncoder: 0, unet: 0, decoder: 0 };
    const images = HostTensor.filled([1, 3, size.height, size.width], 0);
    const generate = () => Promise.resolve({ images, times, warnings: ["the prompt was cut"] });
    const url = await start({ pipeline: { generate }, log: (line) => lines.push(line) });
    const response = await post(url, { prompt: "red", n: 2, quality: "hd" });
    const warnings = ['quality has no effect here, got "hd".', "the prompt was cut"];
    expect(await response.json()).toMatchObject({ warnings });
    expect(lines).toEqual(expect.arrayContaining(warnings.map((warning) => `warning: ${warning}`)));
  });

  it("refuses a port that is none", async () => {
    server = imageServer({ sizes: [size], pipeline: slowPipeline() });
    await expect(server.listen(99999)).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringContaining("from 0 to 65535, got 99999"),
    });
  });

  it("keeps to itself why drawing failed, and logs it", async () => {
    const lines: string[] = [];
    const generate = () => Promise.reject(new SdxsError("NON_FINITE", "generate: the U-Net gave numbers"));
    const url = await start({ pipeline: { generate }, log: (line) => lines.push(line) });
    const response = await post(url, { prompt: "red" });
    expect(response.status).toBe(500);
    expect(await response.json()).toMatchObject({ error: { type: "server_error", code: "internal_error" } });
    expect(lines.join()).toContain("the U-Net gave numbers");
  });

  it("survives a client that breaks off within its body", async () => {
    const lines: string[] = [];
    const url = await start({ pipeline: slowPipeline(), log: (line) => lines.push(line) });
    const headers = { "content-type": "application/json", "content-length": "1000", expect: "100-continue" };
    const client = httpRequest(`${url}/v1/images/generations`, { method: "POST", headers }).on(
      "error",
      () => undefined,
    );
    client.flushHeaders();
    await once(client, "continue"); // the server has begun to read
    client.write('{"prompt":', () => client.destroy());
    await until(() => lines.length > 0);
    expect(lines).toEqual([expect.stringMatching(/closed by the client \d+ ms$/)]);
    expect((await fetch(`${url}/health`)).status).toBe(200);
  });

  it("finishes what is under way when it is closed, and refuses what takes longer than its grace", async () => {
    const pipeline = slowPipeline();
    const url = await start({ pipeline });
    const first = post(url, { prompt: "first" });
    await until(() => pipeline.drawings.length === 1);
    const second = post(url, { prompt: "second" });
    await until(async () => (await waiting(url)) === 1);
    const closed = server!.close(200);
    await expect(fetch(`${url}/health`)).rejects.toThrow();
    pipeline.drawings[0]?.finish();
    expect((await first).status).toBe(200);
    const refused = await second;
    expect(refused.status).toBe(503);
    expect(await refused.json()).toMatchObject({ error: { type: "server_error", code: "stopping" } });
    await closed;
  });
});
