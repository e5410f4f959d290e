import { describe, expect, it } from "vitest";
import { parseInferArguments } from "./infer-arguments.js";

describe("parseInferArguments", () => {
  it("fills in the defaults that the usage names", () => {
    expect(parseInferArguments(["--model", "sdxs-512"])).toEqual({
      model: "sdxs-512",
      backends: ["onnx"],
      rounds: 1,
      runs: 5,
      python: "/usr/bin/python3",
    });
  });

  it("takes several backends to measure in turn", () => {
    const { backends, rounds } = parseInferArguments(
      "--model sdxs-512 --backend onnx,torch-export --rounds 3".split(" "),
    );
    expect({ backends, rounds }).toEqual({ backends: ["onnx", "torch-export"], rounds: 3 });
  });

  it.each([
    [[], /--model must be sdxs-512 or emoji, got ""/],
    [
      ["--model", "sdxs-512", "--backend", "onnx,abacus"],
      /--backend must be of .*torch-export, torch, torch-cuda, onnx-int8, onnx-webgpu-fp16, webgpu-fp16, got "abacus"/,
    ],
    [["--model", "sdxs-512", "--rounds", "0"], /--rounds/],
    [["--model", "sdxs-512", "--runs", "0"], /--runs/],
    [["--modle", "sdxs-512"], /--modle/],
  ])("refuses %j and names the argument", (args, message) => {
    expect(() => parseInferArguments(args)).toThrow(message);
    expect(() => parseInferArguments(args)).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
  });
});
