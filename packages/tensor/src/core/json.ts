import { MalformedFileError } from "./errors.js";

/** Chosen: Python's own limit on recursion. Configurations nest four deep. */
const MAX_DEPTH = 1000;
/** Characters of invalid text that a message quotes: chosen. */
const QUOTED = 30;

const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const ESCAPE = /\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})/y;
const WORDS: Readonly<Record<string, boolean | number | null>> = {
  null: null,
  true: true,
  false: false,
  NaN,
  Infinity,
  "-Infinity": -Infinity,
};

/**
 * Reads JSON as Python's `json` does, with the numbers NaN, Infinity and -Infinity, which configurations of diffusers hold
 * ("lambda_min_clipped": -Infinity) and `JSON.parse` refuses. All else is read as by `JSON.parse`.
 *
 * @param source Where the text is from, for messages: a path or an address.
 * @throws MalformedFileError that names the source, the line and the column.
 *
 * @example
 * parseJson('{ "lambda_min_clipped": -Infinity }', "scheduler_config.json"); // { lambda_min_clipped: -Infinity }
 */
export function parseJson(text: string, source: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return new Parser(text, source).document();
  }
}

/**
 * Writes JSON as Python's `json` reads it: as `JSON.stringify`, which turns numbers that are not finite into null, but with
 * NaN, Infinity and -Infinity.
 *
 * @param indent Spaces of each level. Default 0: all in one line.
 *
 * @example
 * await writeFile("scheduler_config.json", formatJson({ lambda_min_clipped: -Infinity }, 2));
 */
export function formatJson(value: unknown, indent = 0): string {
  return format(value, indent, "\n");
}

/** `margin` stands before a line of the value's own level. */
function format(value: unknown, indent: number, margin: string): string {
  if (typeof value === "number") return String(value);
  if (value === undefined) return "null";
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const inner = margin + " ".repeat(indent);
  const write = (element: unknown): string => format(element, indent, inner);
  const isList = Array.isArray(value);
  const parts = isList
    ? value.map(write)
    : Object.entries(value)
        .filter(([, member]) => member !== undefined)
        .map(([name, member]) => `${JSON.stringify(name)}:${indent > 0 ? " " : ""}${write(member)}`);
  const [open, close] = isList ? "[]" : "{}";
  if (parts.length === 0) return `${open}${close}`;
  return indent > 0
    ? `${open}${inner}${parts.join(`,${inner}`)}${margin}${close}`
    : `${open}${parts.join(",")}${close}`;
}

/** For texts that `JSON.parse` refuses, whose errors differ from engine to engine. */
class Parser {
  private at = 0;

  constructor(
    private readonly text: string,
    private readonly source: string,
  ) {}

  document(): unknown {
    const value = this.value(0);
    if (this.next() !== undefined) this.fail("nothing more");
    return value;
  }

  private value(depth: number): unknown {
    const first = this.next();
    if (depth > MAX_DEPTH) this.fail(`at most ${MAX_DEPTH} lists and objects within each other`);
    if (first === "{") return Object.fromEntries(this.elements("}", () => this.member(depth)));
    if (first === "[") return this.elements("]", () => this.value(depth + 1));
    if (first === '"') return this.string();
    const word = Object.keys(WORDS).find((known) => this.text.startsWith(known, this.at));
    if (word !== undefined) {
      this.at += word.length;
      return WORDS[word];
    }
    const number = this.match(NUMBER);
    if (number === undefined) this.fail("a value");
    return Number(number);
  }

  private member(depth: number): [string, unknown] {
    if (this.next() !== '"') this.fail("a name in double quotes");
    const name = this.string();
    if (this.next() !== ":") this.fail('":"');
    this.at++;
    return [name, this.value(depth + 1)];
  }

  /** Of a list or an object, from its opening bracket to its closing one. */
  private elements<E>(close: "]" | "}", element: () => E): E[] {
    this.at++;
    const found: E[] = [];
    if (this.next() === close) {
      this.at++;
      return found;
    }
    for (;;) {
      found.push(element());
      const after = this.next();
      if (after !== "," && after !== close) this.fail(`"," or "${close}"`);
      this.at++;
      if (after === close) return found;
    }
  }

  private string(): string {
    const start = this.at++;
    for (;;) {
      const character = this.text[this.at];
      if (character === undefined || character < " ") this.fail(`the text's closing '"'`);
      if (character === "\\") {
        if (this.match(ESCAPE) === undefined) this.fail("an escape of JSON, as \\n or \\u00e9");
      } else {
        this.at++;
        if (character === '"') return JSON.parse(this.text.slice(start, this.at)) as string;
      }
    }
  }

  /** The next character that is no space. Undefined: the text ends. */
  private next(): string | undefined {
    while (" \t\n\r".includes(this.text[this.at] ?? "?")) this.at++;
    return this.text[this.at];
  }

  private match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text)?.[0];
    this.at += found?.length ?? 0;
    return found;
  }

  private fail(expected: string): never {
    const lines = this.text.slice(0, this.at).split("\n");
    const column = (lines.at(-1) ?? "").length + 1;
    const got = this.at < this.text.length ? JSON.stringify(this.text.slice(this.at, this.at + QUOTED)) : "its end";
    throw new MalformedFileError(
      `${this.source} is not JSON: at line ${lines.length}, column ${column}, expected ${expected}, got ${got}. ` +
        `Fetch it again, or correct it there.`,
    );
  }
}
