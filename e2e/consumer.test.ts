import { execFile } from "node:child_process";
import { mkdtemp, mkdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import ts from "typescript";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { definitions } from "./definitions.js";
import { readmeProgram } from "./readme-program.js";
import { command, npm, publishedPackages, root, run, tarballOf } from "./workspace.js";

// What a consumer adds by choice: an optional peer and the types of Node. Linked, because they are hundreds of megabytes.
const consumersOwn = ["@tensorflow/tfjs", "@types/node", "webgpu", "@webgpu/types"];

const entries = publishedPackages.flatMap(({ manifest }) =>
  Object.keys(manifest.exports)
    .filter((subpath) => subpath !== "./package.json")
    .map((subpath) => `${manifest.name}${subpath.slice(1)}`),
);

/** An empty folder into which the tarballs are installed, as anybody would install the packages. */
let consumer: string;

beforeAll(async () => {
  consumer = await mkdtemp(join(tmpdir(), "sdxs-consumer-"));
  await write("package.json", JSON.stringify({ private: true }));
  const tarballs = publishedPackages.map(({ manifest }) => tarballOf(manifest, inject("tarballs")));
  // Without scripts: that of onnxruntime-node fetches what only GPUs need.
  const options = ["--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"];
  await npm(["install", ...options, ...tarballs], consumer);
  for (const name of consumersOwn) {
    const link = join(consumer, "node_modules", name);
    await mkdir(dirname(link), { recursive: true });
    await symlink(join(root, "node_modules", name), link, "junction");
  }
});

afterAll(() => rm(consumer, { recursive: true }));

const write = (name: string, text: string): Promise<void> => writeFile(join(consumer, name), text);

/** The names that each entry exports, as the given expression loads it inside a loop over `entry`. */
async function exportedNames(file: string, load: string): Promise<Record<string, string[]>> {
  const listed = `const names = {};
    for (const entry of ${JSON.stringify(entries)})
      names[entry] = Object.keys(${load}).filter((name) => name !== "default" && name !== "module.exports").sort();
    process.stdout.write(JSON.stringify(names));`;
  await write(file, listed);
  return JSON.parse(await run("node", [file], consumer)) as Record<string, string[]>;
}

/** Type-checks files as a strict consumer does. */
const typeCheck = (files: readonly string[], ...options: readonly string[]): Promise<string> =>
  command(
    "typescript",
    ["--noEmit", "--strict", "--target", "es2022", "--module", "nodenext", ...options, ...files],
    consumer,
  );

test("go to definition leads from each exported name into the sources", async () => {
  const imported = await exportedNames("definitions.mjs", "await import(entry)");
  const found = definitions(consumer, imported);
  const astray = entries.flatMap((entry) =>
    imported[entry]!.map((name, i) => ({ name, place: found[entry]![i]!.replaceAll("\\", "/") })).filter(
      ({ name, place }) => !/\/@sdxs\/[a-z-]+\/src\/.*: /.test(place) || !place.endsWith(`: ${name}`),
    ),
  );
  expect(astray).toEqual([]);
});

test("every entry loads with import and with require, and exports the same names", async () => {
  const imported = await exportedNames("load.mjs", "await import(entry)");
  expect(await exportedNames("load.cjs", "require(entry)")).toEqual(imported);
  expect(Object.keys(imported).filter((entry) => imported[entry]?.length === 0)).toEqual([]);
});

// Under a full check the types of tfjs themselves collide with TypeScript's own for WebGPU, and need the DOM.
const needsTfjs = (entry: string): boolean => ["@sdxs/tensor/tfjs", "@sdxs/runtime/backends"].includes(entry);
const others = entries.filter((entry) => !needsTfjs(entry));

test.each([
  { title: "with the DOM and Node's types", checked: others, options: ["--types", "node"] },
  { title: "with the DOM alone", checked: others, options: ["--typeRoots", "none"] },
  { title: "with Node's types alone", checked: others, options: ["--types", "node", "--lib", "es2022"] },
  { title: "with neither", checked: others, options: ["--typeRoots", "none", "--lib", "es2022"] },
  {
    title: "of tfjs, as far as a consumer sees them",
    checked: entries.filter(needsTfjs),
    options: ["--types", "node", "--skipLibCheck"],
  },
])("declarations type-check from ES modules and from CommonJS $title", async ({ checked, options }) => {
  const program = checked.map((entry, index) => `export * as entry${index} from "${entry}";`).join("\n");
  await write("entries.mts", program);
  await write("entries.cts", program);
  await typeCheck(["entries.mts", "entries.cts"], ...options);
});

test("declarations take the platform's own types where there are some, and Node's packages for GPUs", async () => {
  await write(
    "platform.mts",
    `import { create } from "webgpu";
    import type { OnnxRuntime } from "@sdxs/tensor/onnx";
    import { requestGpuDevice, webgpuBackend } from "@sdxs/tensor/webgpu";
    import type { GenerateOptions } from "@sdxs/runtime";
    import type * as ort from "onnxruntime-node";
    export const signal: GenerateOptions["signal"] = new AbortController().signal;
    export const backend = async (given: GPUDevice) => [webgpuBackend({ device: given }), requestGpuDevice(create([]))];
    export const device: Promise<GPUDevice> = requestGpuDevice(create([]));
    export const runtime = (own: typeof ort): OnnxRuntime => own;`,
  );
  // Those packages' own declarations need more.
  await typeCheck(["platform.mts"], "--types", "node", "--skipLibCheck", "--lib", "es2022");
  await typeCheck(["platform.mts"], "--types", "node", "--skipLibCheck");
});

test("choosing a backend prints nothing, whatever the machine has", async () => {
  const program = `import * as ort from "onnxruntime-node";
    import { create } from "webgpu";
    import { chooseBackend } from "@sdxs/runtime/backends";
    const { reason } = await chooseBackend({ ort, gpu: create([]) });
    process.stdout.write(reason);
    process.exit();`;
  await write("choose.mjs", program);
  const { stdout, stderr } = await promisify(execFile)("node", ["choose.mjs"], { cwd: consumer });
  expect(stderr).toBe("");
  expect(stdout).toMatch(/ by onnxruntime\.|^WebGPU\./);
});

test("the lines for each reader in the repository's README type-check", async () => {
  const readme = await readFile(join(root, "README.md"), "utf8");
  const blocks = [...readme.matchAll(/```ts\n([^]*?)```/g)].map(([, block]) => block!);
  // What the lines take as given.
  const given = [
    "",
    "declare const options: Parameters<typeof segmentedScoreDistillationTask>[0];",
    "declare const studentFeatures: readonly tf.Tensor[], teacherFeatures: readonly tf.Tensor[];",
  ];
  expect(blocks).toHaveLength(given.length);
  await Promise.all(blocks.map((block, i) => write(`lines-${i}.mts`, `${block}${given[i]!}`)));
  await typeCheck(
    blocks.map((_, i) => `lines-${i}.mts`),
    "--skipLibCheck",
  );
});

test("the command line runs by its name", async () => {
  expect(await npm(["exec", "--offline", "--", "sdxs", "--help"], consumer)).toMatch(/^sdxs COMMAND/);
});

describe.each(publishedPackages)("the program in the README of $manifest.name", ({ folder, manifest }) => {
  const file = `readme-${manifest.name.slice("@sdxs/".length)}`;

  test("type-checks and prints what it says", async () => {
    const { source, expectedLines } = readmeProgram(await readFile(join(folder, "README.md"), "utf8"));
    await write(`${file}.mts`, source);
    await typeCheck([`${file}.mts`], "--types", "node", "--skipLibCheck");
    await write(`${file}.mjs`, ts.transpile(source, { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext }));
    const output = await run("node", [`${file}.mjs`], consumer);
    expect(output.trimEnd().split("\n")).toEqual(expectedLines);
  });
});
