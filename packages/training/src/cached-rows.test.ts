import { mkdtemp, readFile, readdir, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { HostTensor } from "@sdxs/tensor";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { cachedRows, type CachedRowsOptions } from "./cached-rows.js";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "rows-"));
});
afterEach(() => rm(folder, { recursive: true }));

/** Row i is [i / 10, -i / 10] and [i]; five rows in pieces of two. */
let computed: [first: number, count: number][];
beforeEach(() => {
  computed = [];
});
const rows = (first: number, count: number) => Array.from({ length: count }, (_, i) => first + i);
const compute = async (first: number, count: number) => {
  computed.push([first, count]);
  return {
    latents: HostTensor.from(
      [count, 2],
      rows(first, count).flatMap((i) => [i / 10, -i / 10]),
    ),
    ids: new HostTensor([count, 1], Int32Array.from(rows(first, count))),
  };
};
const cached = (options: Partial<CachedRowsOptions<"latents" | "ids">> = {}) =>
  cachedRows({ folder: join(folder, "cache"), key: "a", count: 5, pieceSize: 2, compute, ...options });
const piece = (name: string): string => join(folder, "cache", name);

describe("cachedRows", () => {
  it("computes every row once and gives it again", async () => {
    const progress: number[] = [];
    const first = await cached({ onProgress: (done, count) => progress.push(done, count) });
    expect(first.latents).toEqual(HostTensor.from([5, 2], [0, -0, 0.1, -0.1, 0.2, -0.2, 0.3, -0.3, 0.4, -0.4]));
    expect(first.ids).toEqual(new HostTensor([5, 1], Int32Array.of(0, 1, 2, 3, 4)));
    expect(progress).toEqual([2, 5, 4, 5, 5, 5]);
    expect(computed).toEqual([
      [0, 2],
      [2, 2],
      [4, 1],
    ]);
    expect((await readdir(join(folder, "cache"))).sort()).toEqual([
      "rows-0-2.safetensors",
      "rows-2-4.safetensors",
      "rows-4-5.safetensors",
    ]);
    expect(await cached()).toEqual(first);
    expect(computed.length).toBe(3);
  });

  it("goes on where it was aborted", async () => {
    const abort = new AbortController();
    const aborted = cached({ signal: abort.signal, onProgress: () => abort.abort("enough") });
    await expect(aborted).rejects.toMatchObject({ code: "ABORTED", cause: "enough" });
    const resumed = await cached();
    expect(computed).toEqual([
      [0, 2],
      [2, 2],
      [4, 1],
    ]);
    expect([...resumed.ids.data]).toEqual([0, 1, 2, 3, 4]);
  });

  it.each([
    ["truncated", (path: string) => truncate(path, 60)],
    [
      "changed in one bit",
      async (path: string) => {
        const bytes = await readFile(path);
        bytes[bytes.length - 1]! ^= 1;
        await writeFile(path, bytes);
      },
    ],
    ["removed", (path: string) => rm(path)],
  ])("computes a piece again that was %s", async (_, damage) => {
    const whole = await cached();
    await damage(piece("rows-2-4.safetensors"));
    expect(await cached()).toEqual(whole);
    expect(computed.slice(3)).toEqual([[2, 2]]);
  });

  it("computes all again for another key or type, and the rest for a larger count", async () => {
    await cached({ count: 4 });
    await cached({ count: 6 });
    expect(computed.slice(2)).toEqual([[4, 2]]);
    await cached({ count: 4, key: "b" });
    await cached({ count: 4, key: "b", dtype: "F16" });
    expect(computed.slice(3)).toEqual([
      [0, 2],
      [2, 2],
      [0, 2],
      [2, 2],
    ]);
  });

  it("rounds to float16 before the rows are given, so that the first run has what later ones read", async () => {
    const { latents, ids } = await cached({ dtype: "F16" });
    expect(latents.data[2]).toBe(0.0999755859375); // 0.1 in float16
    expect([...ids.data]).toEqual([0, 1, 2, 3, 4]);
    expect((await cached({ dtype: "F16" })).latents).toEqual(latents);
    expect(computed.length).toBe(3);
  });

  it("refuses another number of rows and options out of range", async () => {
    const short = cached({ compute: (first) => compute(first, 1) });
    await expect(short).rejects.toThrow('compute(0, 2) must give "latents" of shape [2, 2], it gave [1, 2].');
    await expect(cached({ pieceSize: 0 })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  });
});
