import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import * as fs from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { afterAll, describe, expect, it, vi } from "vitest";
import { HostTensor } from "../core/host-tensor.js";
import { openSafetensorsFile, readSafetensorsFile, replaceFile, writeSafetensorsFile } from "./files.js";
import { random } from "../core/random.js";
import { writeSafetensors } from "../weights/safetensors.js";

const fault = vi.hoisted(() => ({ write: undefined as string | undefined }));

// The file system as it is, except that a test may make it refuse writing.
vi.mock("node:fs/promises", async (original) => {
  const actual = await original<typeof fs>();
  return {
    ...actual,
    open: async (...args: Parameters<typeof actual.open>) => {
      const handle = await actual.open(...args);
      if (fault.write !== undefined) {
        const code = fault.write;
        handle.write = () => Promise.reject(Object.assign(new Error(`${code}: refused`), { code }));
      }
      return handle;
    },
  };
});

const folder = mkdtempSync(join(tmpdir(), "sdxs-tensor-"));
afterAll(() => rmSync(folder, { recursive: true }));

const weights = { a: random(1).normal([100, 7]), b: new HostTensor([2], Int32Array.of(3, 4)) };
const others = { c: HostTensor.scalar(1) };

describe("safetensors files", () => {
  it("are written and read back whole or one tensor at a time", async () => {
    const path = join(folder, "round-trip.safetensors");
    await writeSafetensorsFile(path, weights, { metadata: { step: "3" } });
    expect(new Uint8Array(readFileSync(path))).toEqual(writeSafetensors(weights, { metadata: { step: "3" } }));
    expect(await readSafetensorsFile(path)).toEqual({ tensors: weights, metadata: { step: "3" } });
    const file = await openSafetensorsFile(path);
    expect(file.names).toEqual(["a", "b"]);
    expect(await file.read("b")).toEqual(weights.b);
    await file.close();
  });

  it("are named in the error when missing, broken, or a folder", async () => {
    const missing = join(folder, "missing.safetensors");
    await expect(readSafetensorsFile(missing)).rejects.toMatchObject({
      code: "MISSING_FILE",
      message: expect.stringContaining(missing),
    });
    const broken = join(folder, "broken.safetensors");
    await fs.writeFile(broken, "no safetensors at all");
    await expect(openSafetensorsFile(broken)).rejects.toMatchObject({
      name: "MalformedFileError",
      code: "MALFORMED_FILE",
      message: expect.stringContaining(broken),
    });
    await expect(openSafetensorsFile(folder)).rejects.toMatchObject({
      code: "FILE_FAILURE",
      message: expect.stringContaining(folder),
    });
    const nowhere = join(folder, "no", "such", "folder.safetensors");
    await expect(writeSafetensorsFile(nowhere, weights)).rejects.toMatchObject({
      code: "MISSING_FILE",
      message: expect.stringContaining("Create it first"),
    });
  });

  it("stay as they were, with nothing beside them, when the disk is full or a tensor cannot be stored", async () => {
    const place = await fs.mkdtemp(join(folder, "full-"));
    const path = join(place, "weights.safetensors");
    await writeSafetensorsFile(path, weights);
    const before = readFileSync(path);

    fault.write = "ENOSPC";
    try {
      await expect(writeSafetensorsFile(path, others)).rejects.toMatchObject({
        code: "FILE_FAILURE",
        message: `Cannot write ${path}: the disk is full; the file is as it was. Free some space and write again.`,
      });
    } finally {
      fault.write = undefined;
    }
    const tooLarge = { a: HostTensor.scalar(1e9) };
    await expect(writeSafetensorsFile(path, tooLarge, { dtype: "F16" })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
    });

    expect(readFileSync(path)).toEqual(before);
    expect(await fs.readdir(place)).toEqual(["weights.safetensors"]);
  });

  it("lose the leftovers of dead writers at the next write, and only those", async () => {
    const place = await fs.mkdtemp(join(folder, "leftovers-"));
    const path = join(place, "weights.safetensors");
    const dead = spawn(process.execPath, ["--eval", ""]);
    await new Promise((resolve) => dead.once("exit", resolve));
    const leftovers = [
      `.weights.safetensors.${dead.pid}.1.partial`,
      `.weights.safetensors.${process.pid}.999999.partial`,
    ];
    // A living process's file, another file's, and a user's own.
    const kept = [`.weights.safetensors.${process.ppid}.1.partial`, `.other.${dead.pid}.1.partial`, "notes.partial"];
    for (const name of [...leftovers, ...kept]) await fs.writeFile(join(place, name), "half a file");
    await writeSafetensorsFile(path, weights);
    expect((await fs.readdir(place)).sort()).toEqual([...kept, "weights.safetensors"].sort());
  });

  it("are whole when several writes of one process overlap", async () => {
    const path = join(folder, "overlapping.safetensors");
    await Promise.all([weights, others, weights, others].map((tensors) => writeSafetensorsFile(path, tensors)));
    const { tensors } = await readSafetensorsFile(path);
    expect(["a,b", "c"]).toContain(Object.keys(tensors).join());
  });

  it("are the old or the new ones, never half, when the writer is killed at any moment", async () => {
    const place = await fs.mkdtemp(join(folder, "killed-"));
    const path = join(place, "weights.safetensors");
    await transpile(place);
    // Writes files that are filled with their own number, one after the other.
    await fs.writeFile(
      join(place, "writer.mjs"),
      `import { writeSafetensorsFile } from "./node/files.js";
       import { HostTensor } from "./core/host-tensor.js";
       for (let n = 1; ; n++) {
         const tensors = Object.fromEntries("abcd".split("").map((name) => [name, HostTensor.filled([50000], n)]));
         await writeSafetensorsFile(process.argv[2], tensors);
         if (n === 1) console.log("begun");
       }`,
    );
    for (let round = 0; round < 8; round++) {
      const writer = spawn(process.execPath, [join(place, "writer.mjs"), path], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      await new Promise((resolve, reject) => {
        writer.stdout.once("data", resolve);
        writer.once("exit", () => reject(new Error("The writer ended before its first file.")));
      });
      await sleep(3 + 7 * round);
      writer.kill("SIGKILL");
      await new Promise((resolve) => writer.once("exit", resolve));
      const { tensors } = await readSafetensorsFile(path);
      const values = new Set(Object.values(tensors).flatMap(({ data }) => [...new Set(data)]));
      expect(Object.keys(tensors)).toEqual(["a", "b", "c", "d"]);
      expect(values.size).toBe(1);
    }
    await writeSafetensorsFile(path, others);
    expect((await fs.readdir(place)).filter((name) => name.endsWith(".partial"))).toEqual([]);
  });
});

describe("replaceFile", () => {
  it("writes texts as UTF-8", async () => {
    const path = join(folder, "config.json");
    await replaceFile(path, ['{"name":', '"ä"}']);
    expect(readFileSync(path, "utf8")).toBe('{"name":"ä"}');
  });
});

/** Makes JavaScript of what `files.ts` imports, for a process without the test runner. */
async function transpile(target: string): Promise<void> {
  await fs.writeFile(join(target, "package.json"), '{ "type": "module" }');
  for (const name of [
    "node/files",
    "weights/model-files",
    "weights/safetensors",
    "weights/float8",
    "weights/half",
    "weights/half-wasm",
    "core/json",
    "core/wasm-module",
    "core/host-tensor",
    "core/errors",
  ]) {
    await fs.mkdir(dirname(join(target, name)), { recursive: true });
    const source = readFileSync(fileURLToPath(new URL(`../${name}.ts`, import.meta.url)), "utf8");
    const compilerOptions = { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 };
    await fs.writeFile(join(target, `${name}.js`), ts.transpileModule(source, { compilerOptions }).outputText);
  }
}
