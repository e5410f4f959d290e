import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build, type Plugin } from "esbuild";
import { beforeAll, expect, it } from "vitest";
import { folderWithModel } from "./sdxs.test-support.js";

const { folder, model } = folderWithModel();
const program = join(folder, "sdxs.mjs");

/** Native packages are found from here, not from where the program lies. */
const native: Plugin = {
  name: "native",
  setup: (building) => {
    const { resolve } = createRequire(import.meta.url);
    building.onResolve({ filter: /^(onnxruntime-node|sharp|webgpu)$/ }, ({ path }) => ({
      path: pathToFileURL(resolve(path)).href,
      external: true,
    }));
  },
};

beforeAll(async () => {
  await build({
    entryPoints: [fileURLToPath(new URL("./bin.ts", import.meta.url))],
    outfile: program,
    bundle: true,
    format: "esm",
    platform: "node",
    tsconfig: fileURLToPath(new URL("../../../tsconfig.json", import.meta.url)),
    plugins: [native],
    banner: {
      js: 'import { createRequire as requireOf } from "node:module"; const require = requireOf(import.meta.url);',
    },
  });
});

/** Starts it with nobody at the other end of these pipes. */
function startWithout(streams: readonly ("stdout" | "stderr")[], ...args: readonly string[]) {
  const child = spawn(process.execPath, [program, ...args], { stdio: "pipe" });
  for (const stream of streams) child[stream].destroy();
  return child;
}

it.each([[["stderr"]], [["stdout"]], [["stdout", "stderr"]]] as const)("generate draws without %j", async (streams) => {
  const out = join(folder, `without-${streams.join("-")}.png`);
  const child = startWithout(streams, "generate", model, "--prompt", "red", "--out", out);
  expect(await once(child, "exit")).toEqual([0, null]);
  expect(existsSync(out)).toBe(true);
});

it("serve answers request after request without stderr", async () => {
  const child = startWithout(["stderr"], "serve", model, "--port", "0");
  const [line] = (await once(child.stdout, "data")) as [Buffer];
  const url = String(line).trim();
  for (let request = 0; request < 3; request++) expect((await fetch(`${url}/health`)).status).toBe(200);
  child.kill("SIGTERM");
  expect(await once(child, "exit")).toEqual([0, null]);
});
