import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { applyBlocks, blocksOf, filesWithErrors, readPage, runProgram } from "./page.test-support.js";

const tensorEntries = readdirSync(new URL("../packages/tensor/src", import.meta.url))
  .filter((name) => name.endsWith(".ts") && !name.includes("test"))
  .map((name) => `packages/tensor/src/${name}`);
const operationFiles = [...tensorEntries, "examples/own-adapter/jax-backend.ts"];

const pages = [
  { page: "add-an-operation.md", files: operationFiles, without: "An operation that is not elementwise" },
  { page: "add-a-loss.md", files: ["packages/losses/src/index.ts"] },
  { page: "add-a-kernel-or-pass.md", files: ["packages/tensor/src/webgpu.ts"] },
];

describe.each(pages)("$page", ({ page, files, without }) => {
  const text = readPage(page);
  const followed = without === undefined ? text : text.replace(readPage(page, without), "");
  const changes = applyBlocks(blocksOf(followed));

  it("gives sources that compile", () => {
    expect(filesWithErrors(changes, files)).toEqual([]);
  });

  it("has a program that prints what the page says", async () => {
    const { printed, expected } = await runProgram(followed, changes);
    expect(printed).toEqual(expected);
  });

  it("is linked from CONTRIBUTING.md and docs/architecture.md", () => {
    for (const other of ["../CONTRIBUTING.md", "architecture.md"]) {
      expect(readFileSync(new URL(other, import.meta.url), "utf8")).toContain(`${page})`);
    }
  });
});

describe("add-an-operation.md", () => {
  it("names every file in which a declared elementwise operation does not compile yet", () => {
    const declared = applyBlocks(blocksOf(readPage("add-an-operation.md", "Declare it")));
    const asked = applyBlocks(blocksOf(readPage("add-an-operation.md", "What the compiler asks for")));
    expect(filesWithErrors(declared, operationFiles)).toEqual([...asked.keys()].sort());
  });

  it("names every file that has a table by operation", () => {
    const section = readPage("add-an-operation.md", "An operation that is not elementwise");
    const named = [...section.matchAll(/^- `([^`]+)`/gm)].map(([, file]) => file);
    expect(filesWithErrors(applyBlocks(blocksOf(section)), operationFiles)).toEqual(named.sort());
  });
});
