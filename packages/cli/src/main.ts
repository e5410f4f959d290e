import { InvalidArgumentError } from "@sdxs/tensor";
import { bench, benchUsage } from "./bench.js";
import { calibrate, calibrateUsage } from "./calibrate.js";
import { convert, convertUsage } from "./convert.js";
import { exportModel, exportUsage } from "./export.js";
import { generate, generateUsage } from "./generate.js";
import { inspect, inspectUsage } from "./inspect.js";
import { serve, serveUsage } from "./serve.js";
import type { Terminal } from "./terminal.js";

interface Command {
  readonly summary: string;
  readonly usage: string;
  readonly run: (args: readonly string[], terminal: Terminal) => Promise<void>;
}

const commands: Readonly<Record<string, Command>> = {
  generate: { summary: "draw pictures of prompts", usage: generateUsage, run: generate },
  export: { summary: "write stages of a one-step pipeline as ONNX files", usage: exportUsage, run: exportModel },
  serve: { summary: "draw pictures for HTTP clients, as OpenAI's images API does", usage: serveUsage, run: serve },
  inspect: { summary: "list a model's components, parameters and bytes", usage: inspectUsage, run: inspect },
  convert: { summary: "store weights in another precision", usage: convertUsage, run: convert },
  calibrate: { summary: "find what a model needs to draw in 8 bits", usage: calibrateUsage, run: calibrate },
  bench: { summary: "measure each stage of a pipeline", usage: benchUsage, run: bench },
};

const usage = `sdxs COMMAND [arguments]

${Object.entries(commands)
  .map(([name, { summary }]) => `  ${name.padEnd(10)}${summary}`)
  .join("\n")}

sdxs COMMAND --help says more of each.
Exit codes: 0 done, 1 failed, 2 wrong arguments, 130 interrupted.`;

/** As shells have it: 128 + the number of SIGINT. */
const INTERRUPTED = 130;

/**
 * Runs the command line and resolves to its exit code. Errors with a code are written as "sdxs: CODE: message", others, which
 * are defects, with their stack.
 *
 * @param args what follows the program's name
 *
 * @example
 * const { signal } = new AbortController();
 * await main(["generate", "sdxs-512", "--prompt", "a red apple"], { out: console.log, note: console.error, signal });
 */
export async function main(args: readonly string[], terminal: Terminal): Promise<number> {
  const [name = "--help", ...rest] = args;
  try {
    const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
    if (command === undefined) {
      if (!["--help", "-h", "help"].includes(name)) {
        throw new InvalidArgumentError(
          `Expected a command (${Object.keys(commands).join(", ")}), got "${name}". See: sdxs --help`,
        );
      }
      terminal.out(usage);
    } else if (rest.includes("--help")) terminal.out(command.usage);
    else await command.run(rest, terminal);
    return 0;
  } catch (error) {
    if (terminal.signal.aborted) {
      terminal.note("sdxs: interrupted");
      return INTERRUPTED;
    }
    if (!(error instanceof Error && "code" in error && typeof error.code === "string")) {
      terminal.note(`sdxs: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
      return 1;
    }
    terminal.note(`sdxs: ${error.code}: ${error.message}`);
    return error.code === "INVALID_ARGUMENT" ? 2 : 1;
  }
}
