import { mkdtempSync, rmSync } from "node:fs";
import { mkdir, mkdtemp, readdir, symlink, writeFile } from "node:fs/promises";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, it } from "vitest";
import { cacheFolder } from "./cache-folders.js";
import { addressOf } from "./hub.js";
import { hubEnvironment } from "./hub-environment.js";
import { webFiles } from "./web-files.js";

const root = mkdtempSync(join(tmpdir(), "sdxs-hub-"));
afterAll(() => rmSync(root, { recursive: true }));

let HOME: string;
beforeEach(async () => {
  HOME = await mkdtemp(join(root, "home-"));
});

describe("hubEnvironment", () => {
  it("goes by the hub client's defaults", async () => {
    const { cache: _, ...rest } = await hubEnvironment({ HOME });
    expect(rest).toEqual({ endpoint: "https://huggingface.co", offline: false });
  });

  it("reads the token where the hub's login writes it, and HF_TOKEN before it", async () => {
    const tokenOf = async (environment: Record<string, string>) =>
      (await hubEnvironment({ HOME, ...environment })).token;
    await mkdir(join(HOME, ".cache/huggingface"), { recursive: true });
    await writeFile(join(HOME, ".cache/huggingface/token"), "hf_stored\n");
    await writeFile(join(HOME, "token"), "hf_other");
    expect(await tokenOf({})).toBe("hf_stored");
    expect(await tokenOf({ HF_TOKEN: "" })).toBe("hf_stored");
    expect(await tokenOf({ HF_TOKEN: " hf_own\n" })).toBe("hf_own");
    expect(await tokenOf({ HF_TOKEN_PATH: join(HOME, "token") })).toBe("hf_other");
    expect(await tokenOf({ HF_HOME: HOME })).toBe("hf_other");
    expect(await tokenOf({ HF_HOME: "~" })).toBe("hf_other");
    expect(await tokenOf({ XDG_CACHE_HOME: join(HOME, "elsewhere") })).toBeUndefined();
    expect(await tokenOf({ HF_HUB_DISABLE_IMPLICIT_TOKEN: "1" })).toBeUndefined();
    expect(await tokenOf({ HF_HUB_DISABLE_IMPLICIT_TOKEN: "1", HF_TOKEN: "hf_own" })).toBe("hf_own");
  });

  it("reads the address, the silence and whether to go without the network", async () => {
    expect(await hubEnvironment({ HOME, HF_ENDPOINT: "https://mirror.example/hf/" })).toMatchObject({
      endpoint: "https://mirror.example/hf",
    });
    expect(addressOf("owner/name", "v1", "https://mirror.example/hf").href).toBe(
      "https://mirror.example/hf/owner/name/resolve/v1/",
    );
    await expect(hubEnvironment({ HOME, HF_ENDPOINT: "mirror" })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringContaining("HF_ENDPOINT"),
    });
    for (const value of ["1", "on", "Yes", "TRUE"]) {
      expect(await hubEnvironment({ HOME, HF_HUB_OFFLINE: value })).toMatchObject({ offline: true });
    }
    expect(await hubEnvironment({ HOME, HF_HUB_OFFLINE: "0" })).toMatchObject({ offline: false });
    expect(await hubEnvironment({ HOME, HF_HUB_DOWNLOAD_TIMEOUT: "10" })).toMatchObject({ silenceMs: 10_000 });
  });
});

describe("the files of the hub's own client", () => {
  const [commit, blob] = ["c".repeat(40), "b".repeat(40)];

  /** As the client lays a model out. */
  async function layOut(hub: string, text: string): Promise<void> {
    const place = join(hub, "models--owner--name");
    const snapshot = join(place, "snapshots", commit, "unet");
    for (const folder of [snapshot, join(place, "refs"), join(place, "blobs")])
      await mkdir(folder, { recursive: true });
    await writeFile(join(place, "refs/main"), commit);
    await writeFile(join(place, "blobs", blob), text);
    await symlink(join("../../../blobs", blob), join(snapshot, "config.json"));
  }

  it.each([
    ["HF_HUB_CACHE", (home: string) => ({ HF_HUB_CACHE: join(home, "hub") })],
    ["HF_HOME", (home: string) => ({ HF_HOME: home })],
  ])("are read without the network from %s, and nothing is written there", async (_, environment) => {
    await layOut(join(HOME, "hub"), "{}");
    const options = await hubEnvironment({ HOME, HF_HUB_OFFLINE: "1", ...environment(HOME) });
    const files = webFiles(addressOf("owner/name"), options).folder("unet");
    expect(await files.list(["config.json", "absent.json"])).toEqual(["config.json"]);
    expect(await files.readText("config.json")).toBe("{}");
    const other = webFiles(addressOf("owner/other"), options);
    await expect(other.list(["model_index.json"])).rejects.toMatchObject({
      code: "FILE_FAILURE",
      message: expect.stringContaining("HF_HUB_OFFLINE"),
    });
    expect(await readdir(HOME)).toEqual(["hub"]);
  });

  it("are used while the hub has the same, and ours are kept apart", async () => {
    let version = blob;
    const server = createServer(({ method }, response) => {
      response.writeHead(200, { etag: `"${version}"`, "content-length": 5 });
      response.end(method === "HEAD" ? undefined : '{"a"}');
    });
    await once(server.listen(0, "127.0.0.1"), "listening");
    const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    await layOut(join(HOME, "hub"), "{}");
    const options = await hubEnvironment({ HOME, HF_ENDPOINT: endpoint, HF_HOME: HOME });
    const read = () =>
      webFiles(addressOf("owner/name", "main", endpoint), options)
        .folder("unet")
        .readText("config.json");
    expect(await read()).toBe("{}");
    version = "d".repeat(40);
    expect(await read()).toBe('{"a"}');
    expect((await readdir(HOME)).sort()).toEqual(["hub", "sdxs"]);
    server.close().closeAllConnections();
  });
});

describe("where fetched files are kept", () => {
  it.each([
    [{ HOME: "/home/a" }, "/home/a/.cache/sdxs"],
    [{ HOME: "/home/a", XDG_CACHE_HOME: "/x" }, "/x/sdxs"],
    [{ HOME: "/home/a", XDG_CACHE_HOME: "" }, "/home/a/.cache/sdxs"],
    [{ HOME: "/home/a", XDG_CACHE_HOME: "relative" }, "/home/a/.cache/sdxs"],
    [{ HOME: "/home/a", XDG_CACHE_HOME: "/x", HF_HOME: "/big" }, "/big/sdxs"],
    [{ HOME: "/home/a", HF_HOME: "~/big" }, "/home/a/big/sdxs"],
    [{ HOME: "", XDG_CACHE_HOME: "/x" }, "/x/sdxs"],
  ])("is, for %j, %s", (environment, folder) => {
    expect(cacheFolder(environment)).toBe(folder);
  });

  it("must be given", () => {
    expect(() => cacheFolder({ HOME: "" })).toThrow(
      expect.objectContaining({
        code: "INVALID_ARGUMENT",
        message: expect.stringContaining("set HOME, or XDG_CACHE_HOME"),
      }),
    );
  });
});
