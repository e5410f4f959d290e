import { once } from "node:events";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { expect, it, vi } from "vitest";
import { folderWithModel, sdxs } from "./sdxs.test-support.js";

const { folder, model } = folderWithModel();

it("fetches by the hub client's environment, and says what it waits for", async () => {
  const asked: (string | undefined)[] = [];
  const server = createServer((request, response) => {
    asked.push(request.headers.authorization);
    if (asked.length === 1) return void response.writeHead(503, { "retry-after": "0" }).end();
    const path = decodeURIComponent(request.url ?? "").replace("/owner/name/resolve/main/", "");
    void readFile(join(model, path)).then(
      (content) => {
        response.writeHead(200, { "content-length": content.length }).end(request.method === "HEAD" ? "" : content);
      },
      () => response.writeHead(404).end(),
    );
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  vi.stubEnv("HF_ENDPOINT", `http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  vi.stubEnv("HF_HOME", join(folder, "hub"));
  vi.stubEnv("HF_HUB_CACHE", "");
  vi.stubEnv("HF_TOKEN", "hf_secret");
  try {
    const draw = (out: string) => sdxs(["generate", "owner/name", "--prompt", "red", "--out", join(folder, out)]);
    const { exitCode, notes } = await draw("first.png");
    expect(notes.join("\n")).toMatch(
      /sdxs: waiting for http.*model_index\.json: The server is busy or down.*status 503/,
    );
    expect(exitCode).toBe(0);
    expect(new Set(asked)).toEqual(new Set(["Bearer hf_secret"]));
    expect(existsSync(join(folder, "hub/sdxs"))).toBe(true);

    const before = asked.length;
    vi.stubEnv("HF_HUB_OFFLINE", "1");
    expect((await draw("second.png")).exitCode).toBe(0);
    expect(asked).toHaveLength(before);
  } finally {
    vi.unstubAllEnvs();
    server.close().closeAllConnections();
  }
});
