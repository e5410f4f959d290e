import { describe, expect, it } from "vitest";
import { formatJson, parseJson } from "./json.js";

// What Python's json.dumps(json.loads(text), indent=2) gives for each of these texts (CPython 3.11).
const python = `{
  "beta_schedule": "scaled_linear",
  "lambda_min_clipped": -Infinity,
  "sigma_max": Infinity,
  "trained_betas": [
    NaN,
    0.5,
    -1e-05
  ],
  "say \\"NaN\\"": "Infinity, \\\\NaN",
  "empty": [],
  "none": {},
  "on": true,
  "off": false,
  "absent": null
}`;

const value = {
  beta_schedule: "scaled_linear",
  lambda_min_clipped: -Infinity,
  sigma_max: Infinity,
  trained_betas: [NaN, 0.5, -1e-5],
  'say "NaN"': "Infinity, \\NaN",
  empty: [],
  none: {},
  on: true,
  off: false,
  absent: null,
};

describe("parseJson", () => {
  it("reads the numbers that Python writes and JSON.parse refuses", () => {
    expect(parseJson(python, "a.json")).toEqual(value);
    expect(parseJson(" -Infinity\n", "a.json")).toBe(-Infinity);
  });

  it("reads all else as JSON.parse does, also beside such a number", () => {
    const plain = String.raw`{"a": [1, -0.5e+3, "\u00e9\n/\/", {"__proto__": 1, "a": 1, "a": 2}], "b": " "}`;
    const expected: unknown = JSON.parse(plain);
    expect(parseJson(plain, "a.json")).toEqual(expected);
    expect(parseJson(`[NaN, ${plain}]`, "a.json")).toEqual([NaN, expected]);
    const [, { a }] = parseJson(`[NaN, ${plain}]`, "a.json") as [number, { a: unknown[] }];
    expect(Object.keys(a[3] as object)).toEqual(["__proto__", "a"]);
  });

  it.each([
    ["<!DOCTYPE html><html>", 1, 1, "a value", '"<!DOCTYPE html><html>"'],
    ["", 1, 1, "a value", "its end"],
    ['{\n  "a": 1,\n  "b": nan\n}', 3, 8, "a value", '"nan\\n}"'],
    ['{\n  "a": 1\n  "b": 2\n}', 3, 3, '"," or "}"', '"\\"b\\": 2\\n}"'],
    ['{"a": [1, 2', 1, 12, '"," or "]"', "its end"],
    ["{'a': 1}", 1, 2, "a name in double quotes", "\"'a': 1}\""],
    ['{"a" 1}', 1, 6, '":"', '"1}"'],
    ['["a\nb"]', 1, 4, "the text's closing '\"'", '"\\nb\\"]"'],
    [String.raw`["\x41"]`, 1, 3, "an escape of JSON, as \\n or \\u00e9", String.raw`"\\x41\"]"`],
    ["[1,]", 1, 4, "a value", '"]"'],
    ["1 2", 1, 3, "nothing more", '"2"'],
    ["01", 1, 2, "nothing more", '"1"'],
  ])("says where %j is broken", (text, line, column, expected, got) => {
    expect(() => parseJson(text, "unet/config.json")).toThrow(
      expect.objectContaining({
        code: "MALFORMED_FILE",
        message:
          `unet/config.json is not JSON: at line ${line}, column ${column}, expected ${expected}, got ${got}. ` +
          `Fetch it again, or correct it there.`,
      }),
    );
  });

  it("refuses what is nested too deeply instead of running out of stack", () => {
    expect(() => parseJson("[".repeat(1e6), "a.json")).toThrow(/column 1002, expected at most 1000 lists/);
  });
});

describe("formatJson", () => {
  it("writes what Python writes and reads", () => {
    expect(formatJson(value, 2)).toBe(python.replace("-1e-05", "-0.00001"));
  });

  it("writes finite values as JSON.stringify does", () => {
    const { lambda_min_clipped: _, sigma_max: __, trained_betas: ___, ...finite } = value;
    const nested = { ...finite, left: undefined, list: [undefined, -0, [[], [{ a: 1e21 }]]] };
    for (const indent of [0, 2]) expect(formatJson(nested, indent)).toBe(JSON.stringify(nested, null, indent));
  });
});
