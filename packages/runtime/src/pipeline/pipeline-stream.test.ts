import { MessageChannel } from "node:worker_threads";
import { describe, expect, it } from "vitest";
import { HostTensor, SdxsError } from "@sdxs/tensor";
import { pictureStream } from "./pipeline-stream.js";
import type { Pipeline } from "./pipeline-types.js";

/** Draws nothing, when it is told to. */
function slowPainter() {
  const drawn: { prompts: string; seed: unknown }[] = [];
  const pending: { finish(): void }[] = [];
  const generate: Pipeline["generate"] = (prompts, { seed, signal } = {}) =>
    new Promise((resolve, reject) => {
      drawn.push({ prompts: String(prompts), seed });
      const images = HostTensor.scalar(drawn.length);
      const times = { textEncoder: 0, unet: 0, decoder: 0 };
      signal?.addEventListener("abort", () => reject(new SdxsError("ABORTED", "generate: aborted.")));
      pending.push({ finish: () => resolve({ images, times, warnings: [] }) });
    });
  /** Lets the picture under way be finished, once it has begun. */
  const finish = async (): Promise<void> => {
    await begun();
    pending.shift()!.finish();
  };
  const begun = async (): Promise<void> => {
    while (pending.length === 0) await new Promise((resolve) => setImmediate(resolve));
  };
  return { generate, drawn, begun, finish };
}

describe("a stream of pictures", () => {
  it("draws the newest request and drops those before it", async () => {
    const { generate, drawn, begun, finish } = slowPainter();
    const pictures = pictureStream(generate);
    pictures.request("a");
    pictures.request("a r", { seed: 1 });
    const first = pictures.next();
    await begun();
    for (const prompt of ["a re", "a red", "a red apple"]) pictures.request(prompt, { seed: 2 });
    await finish();
    expect((await first).value).toMatchObject({ prompts: "a r", options: { seed: 1 }, images: HostTensor.scalar(1) });
    pictures.close();
    const second = pictures.next();
    await finish();
    expect((await second).value).toMatchObject({ prompts: "a red apple", options: { seed: 2 } });
    expect(await pictures.next()).toEqual({ value: undefined, done: true });
    expect(drawn).toEqual([
      { prompts: "a r", seed: 1 },
      { prompts: "a red apple", seed: 2 },
    ]);
    expect(() => pictures.request("late")).toThrow(expect.objectContaining({ code: "DISPOSED" }));
  });

  it("draws the newest request of those that wait as messages, where a picture is computed without a pause", async () => {
    const drawn: unknown[] = [];
    const pictures = pictureStream(async (prompts) => {
      drawn.push(prompts);
      return { images: HostTensor.scalar(0), times: { textEncoder: 0, unet: 0, decoder: 0 }, warnings: [] };
    });
    const { port1, port2 } = new MessageChannel();
    port2.on("message", (prompt: string) => pictures.request(prompt));
    for (let i = 0; i < 46; i++) port1.postMessage(`prompt ${i}`);
    const shown: unknown[] = [];
    for await (const { prompts } of pictures) {
      shown.push(prompts);
      if (prompts === "prompt 45") break;
    }
    port1.close();
    expect(shown.length).toBeLessThanOrEqual(3);
    expect(drawn).toEqual(shown);
  });

  it("waits for requests, and ends where it is closed meanwhile", async () => {
    const { generate, finish } = slowPainter();
    const pictures = pictureStream(generate);
    const waiting = pictures.next();
    pictures.request("a");
    await finish();
    expect((await waiting).value).toMatchObject({ prompts: "a" });
    const idle = pictures.next();
    pictures.close();
    expect(await idle).toEqual({ value: undefined, done: true });
  });

  it("is aborted while it draws, while it waits, and before it begins", async () => {
    const { generate } = slowPainter();
    const controller = new AbortController();
    const [drawing, waiting] = [1, 2].map(() => pictureStream(generate, controller.signal));
    drawing!.request("a");
    const results = [drawing!.next(), waiting!.next()];
    controller.abort();
    for (const result of results) await expect(result).rejects.toMatchObject({ code: "ABORTED" });
    await expect(pictureStream(generate, controller.signal).next()).rejects.toMatchObject({ code: "ABORTED" });
  });

  it("ends with the error of a request, and where its loop is left", async () => {
    const failing = pictureStream(() => Promise.reject(new SdxsError("INVALID_ARGUMENT", "no")));
    failing.request("a");
    await expect(failing.next()).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    const { generate, finish } = slowPainter();
    const left = pictureStream(generate);
    left.request("a");
    void finish();
    for await (const { prompts } of left) {
      expect(prompts).toBe("a");
      break;
    }
    expect(() => left.request("b")).toThrow(expect.objectContaining({ code: "DISPOSED" }));
  });
});
