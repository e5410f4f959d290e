import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { SdxsError } from "@sdxs/tensor";
import { readOptions, runCommand } from "./command.js";
import { machineLine } from "./machine.js";
import { saveRandomStudent } from "./random-student.js";
import { markdownTable } from "./markdown.js";
import { loadServer } from "./server-load.js";
import { wholeNumber } from "./train-arguments.js";

const USAGE = `Usage: npm run bench:serve -- [options]
  --requests N      half of them broken off, a tenth malformed or huge; default 1000
  --at-once N       clients at once, default 50
  --rounds N        how often, against one server; default 2
  --model FOLDER    a pipeline's; default: one of the quickstart student's shapes with random weights`;

const program = fileURLToPath(new URL("./sdxs.js", import.meta.url));

/** Resident memory of a process in MB. */
async function rssMb(processId: number): Promise<number> {
  const { stdout } = await promisify(execFile)("ps", ["-o", "rss=", "-p", `${processId}`]);
  return Math.round(Number(stdout) / 1024);
}

async function measure(model: string, requests: number, atOnce: number, rounds: number): Promise<boolean> {
  const server = spawn(process.execPath, [program, "serve", model, "--port", "0"], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  const ended = once(server, "exit") as Promise<[number | null, NodeJS.Signals | null]>;
  const ready = once(createInterface(server.stdout), "line") as Promise<[string]>;
  const [url] = await Promise.race([ready, ended]);
  if (typeof url !== "string") throw new SdxsError("BACKEND_FAILURE", `sdxs serve ${model} did not start.`);
  const rss = (): Promise<number> => rssMb(server.pid!);

  const rows: string[][] = [["memory once it is ready", `${await rss()} MB`]];
  const failures: string[] = [];
  for (let round = 1; round <= rounds; round++) {
    const memory: string[] = [];
    const begin = performance.now();
    const report = await loadServer(url, {
      requests,
      atOnce,
      onDone: async (done) => {
        if (done % Math.ceil(requests / 4) === 0) memory.push(`${await rss()}`);
      },
    });
    const seconds = (performance.now() - begin) / 1000;
    failures.push(...report.failures);
    await sleep(1000); // until those who left last have left the line
    const health: unknown = await (await fetch(`${url}/health`)).json();
    rows.push(
      [`**round ${round}**: ${requests} requests, ${atOnce} at once`, `${seconds.toFixed(1)} s`],
      ...Object.entries(report.outcomes)
        .sort()
        .map(([outcome, count]) => [outcome, `${count}`]),
      ["lost or answered wrongly", `${report.failures.length}`],
      ["refused by 429, sent again after `Retry-After`", `${report.refusals}`],
      ["from request to picture, median and slowest", `${ms(report.medianMs)}, ${ms(report.slowestMs)}`],
      ["memory after each quarter", `${memory.join(", ")} MB`],
      ["GET /health at the end", `\`${JSON.stringify(health)}\``],
    );
  }
  server.kill("SIGTERM");
  const [exitCode, signal] = await ended;
  rows.push(["exit code after SIGTERM", `${exitCode ?? signal}`]);

  console.log(`${machineLine()}\n\n${markdownTable(["what", "figure"], rows)}`);
  for (const failure of failures) console.error(failure);
  return failures.length === 0 && exitCode === 0;
}

const ms = (value: number): string => `${Math.round(value)} ms`;

await runCommand(USAGE, async (args) => {
  const values = readOptions("bench:serve", args, {
    requests: { type: "string", default: "1000" },
    "at-once": { type: "string", default: "50" },
    rounds: { type: "string", default: "2" },
    model: { type: "string" },
  });
  const requests = wholeNumber("--requests", values.requests, 4);
  const atOnce = wholeNumber("--at-once", values["at-once"], 1);
  const rounds = wholeNumber("--rounds", values.rounds, 1);
  const folder = await mkdtemp(join(tmpdir(), "sdxs-serve-"));
  try {
    if (values.model === undefined) await saveRandomStudent(folder);
    const isGood = await measure(values.model ?? folder, requests, atOnce, rounds);
    if (!isGood) process.exitCode = 1;
  } finally {
    await rm(folder, { recursive: true });
  }
});
