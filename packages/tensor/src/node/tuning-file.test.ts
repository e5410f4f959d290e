import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { fileTuningStore } from "./tuning-file.js";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "sdxs-tuning-"));
});
afterAll(() => rm(folder, { recursive: true }));

it("keeps texts by key in a file, which it makes", async () => {
  const path = join(folder, "cache", "tilings.json");
  const store = fileTuningStore(path);
  expect(await store.get("a")).toBeUndefined();
  await store.set("a", "1");
  await store.set("b", "2");
  expect(await fileTuningStore(path).get("a")).toBe("1");
  expect(JSON.parse(await readFile(path, "utf8"))).toEqual({ a: "1", b: "2" });
});

it("is empty where the file is damaged", async () => {
  const path = join(folder, "damaged.json");
  await writeFile(path, "{");
  expect(await fileTuningStore(path).get("a")).toBeUndefined();
});
