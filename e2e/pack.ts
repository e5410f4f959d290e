import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestProject } from "vitest/node";
import { npm } from "./workspace.js";

declare module "vitest" {
  interface ProvidedContext {
    /** The folder that holds the tarball of every published package. */
    readonly tarballs: string;
  }
}

/** Packs every published package once for all test files. Returns what removes the tarballs again. */
export default async function packAll(project: TestProject): Promise<() => Promise<void>> {
  const folder = await mkdtemp(join(tmpdir(), "sdxs-tarballs-"));
  await npm(["pack", "--silent", "--workspace", "packages", "--pack-destination", folder]);
  project.provide("tarballs", folder);
  return () => rm(folder, { recursive: true });
}
