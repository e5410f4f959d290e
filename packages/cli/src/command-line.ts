import { existsSync } from "node:fs";
import { parseArgs, type ParseArgsConfig } from "node:util";
import type { PictureSize } from "@sdxs/runtime";
import { InvalidArgumentError } from "@sdxs/tensor";

type Options = NonNullable<ParseArgsConfig["options"]>;
type Values<O extends Options> = ReturnType<typeof parseArgs<{ options: O }>>["values"];

/**
 * A command's options and its operands, as many as `operandNames`. An option that takes one value may be given once.
 *
 * @throws InvalidArgumentError that names the command and the argument.
 */
export function readCommandLine<const O extends Options>(
  command: string,
  args: readonly string[],
  operandNames: readonly string[],
  options: O,
): { readonly values: Values<O>; readonly operands: readonly string[] } {
  const fail = (message: string, cause?: unknown): never => {
    throw new InvalidArgumentError(`${message} See: sdxs ${command} --help`, { cause });
  };
  const parse = () => {
    try {
      return parseArgs({ args: [...args], allowPositionals: true, options, tokens: true });
    } catch (cause) {
      return fail(cause instanceof Error ? firstSentence(cause.message) : String(cause), cause);
    }
  };
  const { values, positionals, tokens } = parse();
  const given = tokens.flatMap((token) => (token.kind === "option" ? [token.name] : []));
  const twice = given.find((name, index) => options[name]?.multiple !== true && given.indexOf(name) !== index);
  if (twice !== undefined) fail(`Option '--${twice}' was given more than once.`);
  if (positionals.length !== operandNames.length) {
    const got = positionals.length === 0 ? "nothing" : positionals.map((operand) => JSON.stringify(operand)).join(" ");
    fail(`Expected ${operandNames.join(" ")}, got ${got}.`);
  }
  return { values, operands: positionals };
}

/** parseArgs goes on with advice on "--", which no command here takes. */
const firstSentence = (message: string): string => `${message.split(/[.\n]\s/)[0] ?? ""}.`.replace(/\.\.$/, ".");

/** @throws InvalidArgumentError */
export function wholeNumber(option: string, text: string, least: number, most = Infinity): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isSafeInteger(value) || value < least || value > most) {
    const range = most === Infinity ? `of at least ${least}` : `from ${least} to ${most}`;
    throw new InvalidArgumentError(`${option} must be a whole number ${range}, got "${text}".`);
  }
  return value;
}

/** @throws InvalidArgumentError */
export function finite(option: string, text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value)) {
    throw new InvalidArgumentError(`${option} must be a number, got "${text}".`);
  }
  return value;
}

/** @throws InvalidArgumentError */
export function oneOf<const V extends string>(option: string, text: string, values: readonly V[]): V {
  const found = values.find((value) => value === text);
  if (found === undefined) {
    throw new InvalidArgumentError(`${option} must be one of ${values.join(", ")}, got "${text}".`);
  }
  return found;
}

/**
 * "512x768", width first, or "512" for a square.
 *
 * @throws InvalidArgumentError
 */
export function pictureSize(option: string, text: string): PictureSize {
  const [, width, height = width] = /^([1-9]\d*)(?:x([1-9]\d*))?$/.exec(text) ?? [];
  if (width === undefined) {
    throw new InvalidArgumentError(`${option} must be WIDTHxHEIGHT in pixels, as 512x768, got "${text}".`);
  }
  return { width: Number(width), height: Number(height) };
}

/**
 * "FILE" or "FILE=WEIGHT"; the weight is 1 where none is given. A file's name may hold "=".
 *
 * @throws InvalidArgumentError
 */
export function weighed(option: string, text: string): { readonly path: string; readonly weight: number } {
  const at = text.lastIndexOf("=");
  if (at < 1 || existsSync(text)) return { path: text, weight: 1 };
  return { path: text.slice(0, at), weight: finite(`${option}'s weight`, text.slice(at + 1)) };
}

/** @throws InvalidArgumentError where the option is absent. */
export function required(command: string, option: string, text: string | undefined): string {
  if (text !== undefined) return text;
  throw new InvalidArgumentError(`Give ${option}. See: sdxs ${command} --help`);
}

/** What `parse` makes of an option that may be absent, as a property to spread. */
export function given<Name extends string, V>(
  name: Name,
  text: string | undefined,
  parse: (text: string) => V,
): { readonly [K in Name]?: V } {
  return (text === undefined ? {} : { [name]: parse(text) }) as { readonly [K in Name]?: V };
}
