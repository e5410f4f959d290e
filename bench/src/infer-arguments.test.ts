import { describe, expect, it } from "vitest";
import { parseInferArguments } from "./infer-arguments.js";

describe("parseInferArguments", () => {
  it("fills in the defaults that the usage names", () => {
    expect(parseInferArguments(["--model", "sdxs-512"])).toEqual({
      model: "sdxs-512",
      backend: "onnx",
      runs: 5,
      python: "/usr/bin/python3",
    });
  });

  it.each([
    [[], /--model must be sdxs-512, got ""/],
    [["--model", "sdxs-512", "--backend", "abacus"], /--backend must be one of .*torch-export, got "abacus"/],
    [["--model", "sdxs-512", "--runs", "0"], /--runs/],
    [["--modle", "sdxs-512"], /--modle/],
  ])("refuses %j and names the argument", (args, message) => {
    expect(() => parseInferArguments(args)).toThrow(message);
    expect(() => parseInferArguments(args)).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
  });
});
