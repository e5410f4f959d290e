import { main } from "./main.js";

const interruption = new AbortController();
const interrupt = (): void => {
  interruption.abort();
};
// The second signal ends the process at once.
process.once("SIGINT", interrupt).once("SIGTERM", interrupt);
// Who reads the notes or the results may be gone before the work is done, as behind `| head`: the work goes on. What cannot be
// written for another reason, as to a full disk, is a failure.
process.stderr.on("error", () => undefined);
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") return;
  process.stderr.write(`sdxs: ${error.code}: cannot write results: ${error.message}\n`);
  process.exit(1);
});

const clearLine = process.stderr.isTTY ? "\r\x1b[K" : "";
void main(process.argv.slice(2), {
  out: (line) => process.stdout.write(`${line}\n`),
  note: (line) => process.stderr.write(`${clearLine}${line}\n`),
  ...(process.stderr.isTTY && { progress: (text: string) => process.stderr.write(clearLine + text) }),
  signal: interruption.signal,
}).then((exitCode) => {
  process.exitCode = exitCode;
});
