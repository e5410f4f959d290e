import { execFile, execFileSync, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Worker } from "node:worker_threads";
import { build } from "esbuild";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { MissingPackageError } from "../core/errors.js";

const folder = mkdtempSync(join(tmpdir(), "sdxs-telemetry-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** Notes which names a process looks up and where it connects to, in the file $LOOKUPS, and lets it have none. */
const interposer = `#define _GNU_SOURCE
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
static void note(const char *what) {
  FILE *file = fopen(getenv("LOOKUPS"), "a");
  if (file) { fprintf(file, "%s\\n", what); fclose(file); }
}
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result) {
  note(node ? node : "-");
  return EAI_FAIL;
}
int connect(int socket, const struct sockaddr *address, socklen_t length) {
  if (address->sa_family == AF_INET || address->sa_family == AF_INET6) note("connect");
  errno = ECONNREFUSED;
  return -1;
}
`;

function hasCompiler(): boolean {
  try {
    execFileSync("cc", ["--version"], { stdio: "ignore" });
    return process.platform === "linux";
  } catch {
    return false;
  }
}

/** Starts the program in a process of its own with an empty home, where its first session has begun. */
async function started(name: string, disabled?: string) {
  const home = join(folder, `home-${name}`);
  await mkdir(home);
  const lookups = join(folder, `lookups-${name}`);
  await writeFile(lookups, "");
  // What a machine of continuous integration sets may switch reports off, too: only what finds programs and libraries is kept.
  const environment = { PATH: process.env["PATH"], LD_LIBRARY_PATH: process.env["LD_LIBRARY_PATH"] };
  const env = {
    ...environment,
    HOME: home,
    LOOKUPS: lookups,
    LD_PRELOAD: join(folder, "interposer.so"),
    ...(disabled !== undefined && { ORT_DISABLE_TELEMETRY: disabled }),
  };
  const program = spawn(process.execPath, [join(folder, "program.mjs"), name], { env, cwd: home });
  programs.push(program);
  await once(program.stdout, "data");
  return {
    /** What it has looked up. */
    lookups: () => readFile(lookups, "utf8"),
    /** What it has left in its home. */
    files: () => readdirSync(home, { recursive: true }) as string[],
  };
}

const programs: ChildProcess[] = [];
afterAll(() => {
  for (const program of programs) program.kill("SIGKILL");
});

describe.skipIf(!hasCompiler())("onnxruntime-node (skipped where there is no C compiler, or no Linux)", () => {
  beforeAll(async () => {
    await writeFile(join(folder, "interposer.c"), interposer);
    const library = ["-shared", "-fPIC", "-o", join(folder, "interposer.so"), join(folder, "interposer.c")];
    await promisify(execFile)("cc", library);
    const { outputFiles } = await build({
      entryPoints: [fileURLToPath(new URL("../onnx.ts", import.meta.url))],
      bundle: true,
      format: "esm",
      platform: "node",
      write: false,
    });
    await writeFile(join(folder, "onnx.mjs"), outputFiles[0]!.contents);
    const ort = createRequire(import.meta.url).resolve("onnxruntime-node");
    await writeFile(
      join(folder, "program.mjs"),
      `import ort from ${JSON.stringify(ort)};
       import { exportOnnx, onnxBackend } from "./onnx.mjs";
       const program = (ops, _, { x }) => ({ y: ops.add(x, 1) });
       const inputs = { x: { shape: [2] } };
       if (process.argv[2] === "alone") await ort.InferenceSession.create(exportOnnx(program, { inputs }).model);
       else await onnxBackend({ ort }).compile(program, { inputs });
       console.log("has a session");
       setInterval(() => undefined, 1000); // until it is killed`,
    );
  });

  it("looks no host up and leaves nothing behind on our backend, while it does both by itself, or where it is asked to", async () => {
    const ours = await started("ours");
    const others = [await started("alone"), await started("asked", "0")];
    // It reports some seconds after the session has begun.
    for (const other of others) {
      while (!(await other.lookups()).includes("microsoft.com"))
        await new Promise((resolve) => setTimeout(resolve, 100));
      expect(other.files().some((file) => file.endsWith("deviceid"))).toBe(true);
    }
    expect(await ours.lookups()).toBe("");
    expect(ours.files()).toEqual([]);
  });
});

it("is refused in a worker thread, where it cannot be switched off", async () => {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL("./telemetry.ts", import.meta.url))],
    bundle: true,
    format: "cjs",
    platform: "node",
    write: false,
  });
  const source = `${outputFiles[0]!.text}
    try { module.exports.disableTelemetry(); } catch (error) { require("node:worker_threads").parentPort.postMessage(error.code); }`;
  const worker = new Worker(source, { eval: true, env: {} });
  const code = await new Promise((resolve) => worker.once("message", resolve));
  expect(code).toBe("UNSUPPORTED_OPERATION");
});

it("says how to install where its download is blocked", () => {
  expect(new MissingPackageError("onnxruntime-node", "This").message).toContain("ONNXRUNTIME_NODE_INSTALL=skip");
  expect(new MissingPackageError("sharp", "This").message).toMatch(/Run: npm install sharp$/);
});
