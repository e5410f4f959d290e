import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { savePipelineFolder } from "@sdxs/runtime/node";
import { afterAll, beforeAll } from "vitest";
import { tinyPipeline } from "../../runtime/src/pipeline/tiny-pipeline.test-support.js";
import { main } from "./main.js";

/** A folder for a test file's tests, with the tiny pipeline in "model". */
export function folderWithModel(): { readonly folder: string; readonly model: string } {
  const folder = mkdtempSync(join(tmpdir(), "sdxs-cli-"));
  const model = join(folder, "model");
  beforeAll(() => savePipelineFolder(model, { components: tinyPipeline }));
  afterAll(() => rmSync(folder, { recursive: true }));
  return { folder, model };
}

/** Runs the command line in this process. */
export async function sdxs(args: readonly string[], signal = new AbortController().signal) {
  const out: string[] = [];
  const notes: string[] = [];
  const exitCode = await main(args, { out: (line) => out.push(line), note: (line) => notes.push(line), signal });
  return { exitCode, out, notes };
}
