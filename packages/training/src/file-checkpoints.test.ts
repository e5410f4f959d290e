import { chmod, mkdtemp, readFile, readdir, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { HostTensor } from "@sdxs/tensor";
import type { Checkpoint } from "./checkpoint-store.js";
import { fileCheckpoints } from "./file-checkpoints.js";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "checkpoints-"));
});
afterEach(async () => {
  await chmod(directory, 0o700);
  await rm(directory, { recursive: true });
});

const checkpoint = (step: number): Checkpoint => ({
  step,
  state: {
    "params.w": HostTensor.from([2, 2], [step, NaN, -0, 1e-45]),
    steps: new HostTensor([], Int32Array.of(step)),
    flags: new HostTensor([3], Uint8Array.of(1, 0, 1)),
  },
  metadata: { task: "example" },
});

describe("fileCheckpoints", () => {
  it("returns the newest checkpoint, bit for bit", async () => {
    const store = fileCheckpoints(join(directory, "run", "checkpoints"));
    expect(await store.newest()).toBeUndefined();
    await store.save(checkpoint(9));
    await store.save(checkpoint(10));
    expect(await store.newest()).toEqual(checkpoint(10));
    expect(await fileCheckpoints(join(directory, "run", "checkpoints")).newest()).toEqual(checkpoint(10));
  });

  it("keeps `keep` files and leaves other files alone", async () => {
    await writeFile(join(directory, "step-notes.txt"), "");
    const store = fileCheckpoints(directory, { keep: 3 });
    for (const step of [1, 2, 3, 4, 5]) await store.save(checkpoint(step));
    expect((await readdir(directory)).sort()).toEqual([
      "step-000000003.safetensors",
      "step-000000004.safetensors",
      "step-000000005.safetensors",
      "step-notes.txt",
    ]);
  });

  it.each([
    ["truncated", async (path: string) => truncate(path, 300)],
    ["empty", async (path: string) => truncate(path, 0)],
    [
      "changed in one bit",
      async (path: string) => {
        const bytes = await readFile(path);
        bytes[bytes.length - 1]! ^= 1;
        await writeFile(path, bytes);
      },
    ],
    [
      "another safetensors file",
      async (path: string) => {
        const header = Buffer.from("{}");
        await writeFile(path, Buffer.concat([Buffer.from(BigUint64Array.of(2n).buffer), header]));
      },
    ],
  ])("reports a newest file that is %s, uses the one before, and deletes it after the next save", async (_, damage) => {
    const reports: [string, unknown][] = [];
    const open = () => fileCheckpoints(directory, { onDamaged: (path, error) => reports.push([path, error]) });
    await open().save(checkpoint(1));
    await open().save(checkpoint(2));
    const newest = join(directory, "step-000000002.safetensors");
    await damage(newest);

    const store = open();
    expect(await store.newest()).toEqual(checkpoint(1));
    expect(reports).toEqual([[newest, expect.objectContaining({ code: "MALFORMED_FILE" })]]);
    expect(await readdir(directory)).toHaveLength(2);

    // A lower step than the damaged one, as where checkpoints are saved by the clock.
    await store.save({ ...checkpoint(1), step: 1 });
    expect(await readdir(directory)).toEqual(["step-000000001.safetensors"]);
    expect(await store.newest()).toEqual(checkpoint(1));
  });

  it("does not start over silently where all checkpoints are damaged", async () => {
    const store = fileCheckpoints(directory, { onDamaged: () => undefined });
    await writeFile(join(directory, "step-000000007.safetensors"), "hello");
    await expect(store.newest()).rejects.toMatchObject({
      code: "MALFORMED_FILE",
      message: expect.stringContaining("step-000000007.safetensors"),
    });
  });

  it("removes what killed processes left of other checkpoints", async () => {
    await writeFile(join(directory, ".step-000000004.safetensors.999999999.1.partial"), "half");
    const store = fileCheckpoints(directory);
    expect(await store.newest()).toBeUndefined();
    await store.save(checkpoint(5));
    expect(await readdir(directory)).toEqual(["step-000000005.safetensors"]);
  });

  it("says before any training that a directory cannot be written", async () => {
    const file = join(directory, "file");
    await writeFile(file, "");
    const failure = { code: "FILE_FAILURE", message: expect.stringContaining("Check its permissions") };
    await expect(fileCheckpoints(file).newest()).rejects.toMatchObject(failure);
    await expect(fileCheckpoints(join(file, "below")).save(checkpoint(1))).rejects.toMatchObject(failure);
  });

  it.skipIf(process.getuid?.() === 0)("says so of a directory that is read-only", async () => {
    await chmod(directory, 0o500);
    await expect(fileCheckpoints(directory).newest()).rejects.toMatchObject({ code: "FILE_FAILURE" });
  });

  it("refuses to keep none", () => {
    expect(() => fileCheckpoints(directory, { keep: 0 })).toThrow("keep must be a whole number of at least 1");
  });
});
