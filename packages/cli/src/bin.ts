import { main } from "./main.js";

const interruption = new AbortController();
const interrupt = (): void => {
  interruption.abort();
};
// The second signal ends the process at once.
process.once("SIGINT", interrupt).once("SIGTERM", interrupt);
// Nobody reads the results any more, as behind `| head`.
process.stdout.on("error", interrupt);

const clearLine = process.stderr.isTTY ? "\r\x1b[K" : "";
void main(process.argv.slice(2), {
  out: (line) => process.stdout.write(`${line}\n`),
  note: (line) => process.stderr.write(`${clearLine}${line}\n`),
  ...(process.stderr.isTTY && { progress: (text: string) => process.stderr.write(clearLine + text) }),
  signal: interruption.signal,
}).then((exitCode) => {
  process.exitCode = exitCode;
});
