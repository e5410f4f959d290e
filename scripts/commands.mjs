// What the entry scripts share. Node's own modules only: this runs before anything is installed.
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** The repository's root folder. */
export const root = fileURLToPath(new URL("..", import.meta.url));

/**
 * Runs npm in the root with this terminal and resolves to its exit code.
 * Signals that reach this process are passed on; a run that a signal ended ends this process too.
 */
export function npm(...args) {
  // npm names its own program to the scripts it runs; spawning that needs no shell on any system.
  const { npm_execpath: program } = process.env;
  const command = program === undefined ? "npm" : process.execPath;
  const child = spawn(command, program === undefined ? args : [program, ...args], {
    cwd: root,
    stdio: "inherit",
    env: { ...process.env, TURBO_TELEMETRY_DISABLED: "1" },
  });
  const forward = (signal) => child.kill(signal);
  const signals = ["SIGINT", "SIGTERM"];
  for (const signal of signals) process.on(signal, forward);
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code, signal) => {
      for (const name of signals) process.off(name, forward);
      // Shells report a program that a signal ended as 128 + the signal's number.
      const exitCode = signal === null ? code : 128 + constants.signals[signal];
      if (exitCode > 128) process.exit(exitCode);
      resolve(exitCode);
    });
  });
}

/** Installs exactly what the lock file names, unless it is there already. */
export async function ensureInstalled() {
  if (isInstalled()) return;
  console.log("Installing dependencies: npm ci");
  const exitCode = await npm("ci");
  if (exitCode !== 0) process.exit(exitCode);
}

/** Whether node_modules holds every required package of the lock file in the version that it names. */
function isInstalled() {
  const wanted = readLock("package-lock.json");
  const present = readLock("node_modules/.package-lock.json");
  return Object.entries(wanted).every(
    ([path, { optional, link, version }]) =>
      !path.includes("node_modules/") || optional || link || present[path]?.version === version,
  );
}

function readLock(path) {
  try {
    return JSON.parse(readFileSync(join(root, path), "utf8")).packages;
  } catch (error) {
    if (error.code === "ENOENT") return {};
    throw error;
  }
}
