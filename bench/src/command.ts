import { parseArgs, type ParseArgsConfig } from "node:util";
import { InvalidArgumentError, SdxsError } from "@sdxs/tensor";

/**
 * The options of a command line; `command` begins the message of what cannot be read.
 *
 * @throws InvalidArgumentError that names the argument.
 */
export function readOptions<const O extends NonNullable<ParseArgsConfig["options"]>>(
  command: string,
  args: readonly string[],
  options: O,
) {
  try {
    return parseArgs({ args: [...args], options }).values;
  } catch (cause) {
    throw new InvalidArgumentError(`${command}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
}

/** Runs a program with its arguments. What a user can mend is shown without a stack, and the usage with it. */
export async function runCommand(usage: string, main: (args: readonly string[]) => Promise<void>): Promise<void> {
  try {
    await main(process.argv.slice(2));
  } catch (error) {
    if (!(error instanceof SdxsError)) throw error;
    console.error(`${error.message}\n\n${usage}`);
    process.exitCode = 2;
  }
}
