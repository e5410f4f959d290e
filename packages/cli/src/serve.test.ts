import { expect, it } from "vitest";
import { main } from "./main.js";
import { folderWithModel, sdxs } from "./sdxs.test-support.js";

const { model } = folderWithModel();

/** Starts `sdxs serve`, and gives its address, its log and what stops it. */
async function serving(...args: readonly string[]) {
  const stopping = new AbortController();
  const log: string[] = [];
  let ended: Promise<number> = Promise.resolve(-1);
  const url = await new Promise<string>((out) => {
    const terminal = { out, note: (line: string) => log.push(line), signal: stopping.signal };
    ended = main(["serve", model, "--port", "0", ...args], terminal);
  });
  const stop = (): Promise<number> => {
    stopping.abort();
    return ended;
  };
  return { url, log, stop };
}

const health = async (url: string): Promise<unknown> => (await fetch(`${url}/health`)).json();

it("serves pictures of the model's own size until it is stopped", async () => {
  const { url, log, stop } = await serving();
  expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
  expect(await health(url)).toEqual({ status: "ok", drawing: false, waiting: 0, sizes: ["12x8"] });
  const headers = { "content-type": "application/json" };
  const body = JSON.stringify({ prompt: "red", size: "12x8" });
  expect((await fetch(`${url}/v1/images/generations`, { method: "POST", headers, body })).status).toBe(200);
  expect(await stop()).toBe(0);
  expect(log[0]).toBe("sdxs: serving pictures of 12x8");
  expect(log.slice(1).map((line) => line.replace(/\d+ ms/, "MS"))).toEqual([
    "GET /health 200 MS",
    "POST /v1/images/generations 200 MS",
    "sdxs: stopping",
  ]);
});

it("serves pictures of the sizes that it is given", async () => {
  const { url, stop } = await serving("--size", "8", "--size", "16x8");
  expect(await health(url)).toMatchObject({ sizes: ["8x8", "16x8"] });
  expect(await stop()).toBe(0);
});

it("says that the port is taken", async () => {
  const { url, stop } = await serving();
  const run = await sdxs(["serve", model, "--port", new URL(url).port]);
  expect(run).toMatchObject({ exitCode: 1, notes: [expect.stringMatching(/^sdxs: EADDRINUSE: /)] });
  await stop();
});

it("refuses a port that is none, before it opens the model", async () => {
  expect(await sdxs(["serve", "no-such-model", "--port", "99999"])).toEqual({
    exitCode: 2,
    out: [],
    notes: ['sdxs: INVALID_ARGUMENT: --port must be a whole number from 0 to 65535, got "99999".'],
  });
});
