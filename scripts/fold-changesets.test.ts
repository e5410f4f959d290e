import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { root, run } from "../e2e/workspace.js";

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "sdxs-changesets-"));
});

afterEach(() => rmSync(folder, { recursive: true }));

const write = (name: string, text: string): void => writeFileSync(join(folder, name), text);
const read = (name: string): string => readFileSync(join(folder, name), "utf8");
const fold = (): Promise<string> => run(process.execPath, [join(root, "scripts/fold-changesets.mjs"), folder]);

test("all changesets become one for each package, with the highest bump and all words", async () => {
  write("b.md", '---\n"@sdxs/runtime": patch\n"@sdxs/tensor": minor\n---\n\nDraws faster.\n');
  write("a.md", '---\n"@sdxs/tensor": patch\n---\n\nLoads.\n');
  write("config.json", "{}");
  await fold();
  expect(readdirSync(folder).sort()).toEqual(["config.json", "sdxs-runtime.md", "sdxs-tensor.md"]);
  expect(read("sdxs-tensor.md")).toBe('---\n"@sdxs/tensor": minor\n---\n\nLoads.\n\nDraws faster.\n');
  expect(read("sdxs-runtime.md")).toBe('---\n"@sdxs/runtime": patch\n---\n\nDraws faster.\n');
});

test("later changesets go to the end of what was folded before", async () => {
  write("sdxs-tensor.md", '---\n"@sdxs/tensor": minor\n---\n\nThe first release.\n');
  write("a.md", '---\n"@sdxs/tensor": patch\n---\n\nLoads.\n');
  await fold();
  expect(read("sdxs-tensor.md")).toBe('---\n"@sdxs/tensor": minor\n---\n\nThe first release.\n\nLoads.\n');
});

test("what is no changeset is named and nothing is removed", async () => {
  write("a.md", '---\n"@sdxs/tensor": patch\n---\n\nLoads.\n');
  write("notes.md", "Remember the milk.\n");
  await expect(fold()).rejects.toThrow("notes.md is no changeset");
  expect(readdirSync(folder).sort()).toEqual(["a.md", "notes.md"]);
});
