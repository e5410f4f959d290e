import { resolve } from "node:path";
import { parseArgs, type ParseArgsConfig } from "node:util";
import type { BackendOptions } from "./backend.js";
import { wholeNumber } from "./program.js";
import type { WorkFolderOptions } from "./work-folder.js";

/** What a command that trains and reports was asked for. */
export interface RunOptions<Numbers extends string, Lists extends string> {
  readonly numbers: Readonly<Record<Numbers, number>>;
  readonly lists: Readonly<Record<Lists, string[]>>;
  /** What all of them have. */
  readonly run: WorkFolderOptions & BackendOptions;
}

/**
 * Reads --seed, --output, --restart and --gpu, whole numbers and options that may be repeated, by their names and defaults.
 *
 * @throws InvalidArgumentError for a number that is none; what `parseArgs` throws for unknown options
 *
 * @example
 * const { numbers, run } = readRunOptions(args, "tiny-unet", { steps: 500, "ablation-steps": 100 });
 */
export function readRunOptions<const Numbers extends string, const Lists extends string = never>(
  args: string[],
  output: string,
  numbers: Readonly<Record<Numbers, number>>,
  lists?: Readonly<Record<Lists, readonly string[]>>,
): RunOptions<Numbers, Lists> {
  const options: NonNullable<ParseArgsConfig["options"]> = {
    seed: { type: "string", default: "1" },
    output: { type: "string", default: output },
    restart: { type: "boolean", default: false },
    gpu: { type: "boolean", default: false },
  };
  for (const [name, value] of Object.entries<number>(numbers)) options[name] = { type: "string", default: `${value}` };
  for (const [name, values] of Object.entries<readonly string[]>(lists ?? {})) {
    options[name] = { type: "string", multiple: true, default: [...values] };
  }
  // Of the types that the options have.
  const values = parseArgs({ args, options }).values as Record<string, string> & Record<Lists, string[]>;
  const numberOf = (name: string): number => wholeNumber(`--${name}`, values[name]!);
  return {
    numbers: Object.fromEntries(Object.keys(numbers).map((name) => [name, numberOf(name)])) as Record<Numbers, number>,
    lists: values,
    run: {
      seed: numberOf("seed"),
      output: resolve(values["output"]!),
      restart: Boolean(values["restart"]),
      gpu: Boolean(values["gpu"]),
    },
  };
}
