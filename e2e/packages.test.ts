import { readFileSync, readdirSync } from "node:fs";
import { isBuiltin } from "node:module";
import { join } from "node:path";
import { formatMessage } from "publint/utils";
import { publint } from "publint";
import { preProcessFile } from "typescript";
import { describe, expect, inject, test } from "vitest";
import { command, publishedPackages, root, run, tarballOf } from "./workspace.js";

const licence = readFileSync(join(root, "LICENSE"), "utf8");

describe.each(publishedPackages)("$manifest.name", ({ folder, manifest }) => {
  const tarball = tarballOf(manifest, inject("tarballs"));

  test("gives publint nothing to report", async () => {
    const { buffer } = new Uint8Array(readFileSync(tarball));
    const { messages } = await publint({ pack: { tarball: buffer } });
    expect(messages.map((message) => formatMessage(message, manifest))).toEqual([]);
  });

  test("resolves to the right types for import and for require", async () => {
    // Subpaths fail under the resolution of Node 10 by design: that has no exports maps.
    await command("@arethetypeswrong/cli", [tarball, "--profile", "node16"]);
  });

  test("declares exactly the packages that its build imports, and what it brings to packages that take it if it is there", () => {
    const declared = Object.keys({ ...manifest.dependencies, ...manifest.peerDependencies });
    const imported = importedPackages(join(folder, "dist"));
    const below = publishedPackages.filter(({ manifest: { name } }) => declared.includes(name));
    const taken = below.flatMap(({ manifest: { peerDependencies = {} } }) => Object.keys(peerDependencies));
    const brought = declared.filter((name) => name in (manifest.dependencies ?? {}) && taken.includes(name));
    expect([...new Set([...imported, ...brought])].sort()).toEqual(declared.sort());
  });

  test("carries the licence", () => {
    expect(readFileSync(join(folder, "LICENSE"), "utf8")).toBe(licence);
  });
});

test("every entry has the API that its committed report shows", async () => {
  await run(process.execPath, [join(root, "scripts/api.mjs"), "--check"]);
});

interface MeasuredSize {
  readonly name: string;
  readonly passed: boolean;
  readonly size: number;
  readonly sizeLimit: number;
}

test("every entry stays below its size ceiling, gzipped", async () => {
  const sizes = JSON.parse(await command("size-limit", ["--json"])) as MeasuredSize[];
  expect(sizes.filter(({ passed }) => !passed)).toEqual([]);
});

/** Names of the packages that the JavaScript and the declarations of a build import, sorted. */
function importedPackages(dist: string): string[] {
  const files = readdirSync(dist).filter((name) => /\.(c?js|d\.c?ts)$/.test(name));
  const specifiers = files.flatMap((name) =>
    preProcessFile(readFileSync(join(dist, name), "utf8"), true, true).importedFiles.map((file) => file.fileName),
  );
  const external = specifiers.filter((specifier) => !specifier.startsWith(".") && !isBuiltin(specifier));
  // A scoped name has two parts, "@scope/name"; what follows the name is a subpath.
  const names = external.map((specifier) => /^(@[^/]+\/)?[^/]+/.exec(specifier)?.[0] ?? specifier);
  return [...new Set(names)].sort();
}
