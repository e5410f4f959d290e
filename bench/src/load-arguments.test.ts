import { describe, expect, it } from "vitest";
import { parseLoadArguments } from "./load-arguments.js";

describe("parseLoadArguments", () => {
  it("fills in the defaults that the usage names", () => {
    expect(parseLoadArguments(["--model", "sdxl"])).toEqual({
      model: "sdxl",
      weights: "params",
      height: 128,
      width: 128,
    });
    expect(parseLoadArguments(["--model", "sd21", "--weights", "frozen", "--size", "16x24"])).toEqual({
      model: "sd21",
      weights: "frozen",
      height: 16,
      width: 24,
    });
  });

  it.each([
    [[], /--model must be one of sdxs-512, sd21, sdxl, got ""/],
    [["--model", "toString"], /--model must be one of .*got "toString"/],
    [["--model", "sd21", "--weights", "copied"], /--weights must be params or frozen, got "copied"/],
    [["--model", "sd21", "--size", "0x64"], /--size must be HEIGHTxWIDTH.*got "0x64"/],
    [["--modle", "sd21"], /--modle/],
  ])("refuses %j and names the argument", (args, message) => {
    expect(() => parseLoadArguments(args)).toThrow(message);
    expect(() => parseLoadArguments(args)).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
  });
});
