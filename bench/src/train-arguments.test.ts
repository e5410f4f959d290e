import { describe, expect, it } from "vitest";
import { parseTrainArguments } from "./train-arguments.js";

describe("parseTrainArguments", () => {
  it("fills in the defaults that the usage names", () => {
    expect(parseTrainArguments(["--config", "unet.json"])).toEqual({
      config: "unet.json",
      batch: 1,
      height: 64,
      width: 64,
      backend: "onnx",
      steps: 10,
      warmup: 2,
      seed: 0,
      checkpointing: false,
      dump: undefined,
    });
  });

  it("reads height before width", () => {
    expect(parseTrainArguments(["--config", "c", "--size", "16x24"])).toMatchObject({ height: 16, width: 24 });
  });

  it.each([
    [[], /--config CONFIG.json is missing/],
    [["--config", "c", "--size", "64"], /--size must be HEIGHTxWIDTH.*got "64"/],
    [["--config", "c", "--batch", "0"], /--batch must be a whole number of at least 1, got "0"/],
    [["--config", "c", "--steps", "2.5"], /--steps must be a whole number of at least 1, got "2.5"/],
    [["--config", "c", "--seed", ""], /--seed must be a whole number of at least 0, got ""/],
    [["--config", "c", "--backend", "torch"], /--backend must be one of onnx, .*got "torch"/],
    [["--config", "c", "--bach", "2"], /--bach/],
    [["--config", "c", "--dump"], /--dump/],
  ])("refuses %j and names the argument", (args, message) => {
    expect(() => parseTrainArguments(args)).toThrow(message);
    expect(() => parseTrainArguments(args)).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
  });
});
