import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { request, type IncomingMessage } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { savePipelineFolder } from "@sdxs/runtime/node";
import { afterAll, beforeAll, expect, test } from "vitest";
import { tinyPipeline } from "../packages/runtime/src/pipeline/tiny-pipeline.test-support.js";
import { root } from "./workspace.js";

let folder: string;
let model: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "sdxs-command-line-"));
  model = join(folder, "model");
  await savePipelineFolder(model, { components: tinyPipeline });
});

afterAll(() => rm(folder, { recursive: true }));

/** Starts the built program. `printed` resolves once its output holds the text. */
function sdxs(...args: readonly string[]) {
  const child = spawn(process.execPath, [join(root, "packages/cli/dist/bin.js"), ...args]);
  const output = { stdout: "", stderr: "" };
  const changed = new Set<() => void>();
  for (const name of ["stdout", "stderr"] as const) {
    child[name].setEncoding("utf8").on("data", (text: string) => {
      output[name] += text;
      for (const look of changed) look();
    });
  }
  const ended = new Promise<number | NodeJS.Signals | null>((resolve) => {
    child.once("close", (exitCode, signal) => resolve(exitCode ?? signal));
  });
  const printed = (name: "stdout" | "stderr", text: string): Promise<void> =>
    new Promise((resolve) => {
      const look = (): void => {
        if (output[name].includes(text)) resolve();
      };
      changed.add(look);
      look();
    });
  return { child, output, ended, printed };
}

test("a picture drawn is exit code 0 and its path on standard output", async () => {
  const out = join(folder, "red.png");
  const { ended, output } = sdxs("generate", model, "--prompt", "red", "--out", out);
  expect(await ended).toBe(0);
  expect(output.stdout).toBe(`${out}\n`);
});

test("wrong arguments are exit code 2 and one line", async () => {
  const { ended, output } = sdxs("generate", model);
  expect(await ended).toBe(2);
  expect(output).toEqual({
    stdout: "",
    stderr: "sdxs: INVALID_ARGUMENT: Give at least one --prompt. See: sdxs generate --help\n",
  });
});

test("a missing model is exit code 1 and one line", async () => {
  const { ended, output } = sdxs("generate", join(folder, "none"), "--prompt", "red");
  expect(await ended).toBe(1);
  expect(output.stderr).toMatch(/^sdxs: MISSING_FILE: .*\n$/);
});

test("it ends quietly where nobody reads its results", async () => {
  const { child, ended, output } = sdxs("--help");
  child.stdout.destroy();
  expect(await ended).toBe(0);
  expect(output.stderr).toBe("");
});

// Windows ends a process that another one signals, without a word to it.
const signalled = test.skipIf(process.platform === "win32");

signalled(
  "Ctrl-C ends drawing with exit code 130, keeps the pictures that are done and leaves no half of one",
  async () => {
    const out = join(folder, "many.png");
    const { child, ended, output, printed } = sdxs(
      ...["generate", model, "--prompt", "red", "--count", "100000", "--out", out],
    );
    await printed("stdout", "many-3.png");
    child.kill("SIGINT");
    expect(await ended).toBe(130);
    expect(output.stderr).toMatch(/\nsdxs: interrupted\n$/);
    const files = (await readdir(folder)).filter((name) => name.includes("many"));
    expect(files.sort()).toEqual(
      output.stdout
        .trim()
        .split("\n")
        .map((path) => path.slice(folder.length + 1))
        .sort(),
    );
  },
);

signalled("SIGTERM ends the server with exit code 0 once it has answered", async () => {
  const { child, ended, output, printed } = sdxs("serve", model, "--port", "0");
  await printed("stdout", "\n");
  const client = request(`${output.stdout.trim()}/v1/images/generations`, {
    method: "POST",
    headers: { "content-type": "application/json", expect: "100-continue" },
  });
  client.flushHeaders();
  await once(client, "continue"); // the server has the request
  child.kill("SIGTERM");
  await printed("stderr", "sdxs: stopping\n");
  client.end(JSON.stringify({ prompt: "red" }));
  const [response] = (await once(client, "response")) as [IncomingMessage];
  expect(response.statusCode).toBe(200);
  response.resume();
  expect(await ended).toBe(0);
});
