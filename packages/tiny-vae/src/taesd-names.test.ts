import { describe, expect, it } from "vitest";
import { autoencoderTinyParameters, autoencoderTinyPresets, fromTaesdNames, toTaesdNames } from "./index.js";

const shapesOf = (preset: keyof typeof autoencoderTinyPresets) =>
  Object.fromEntries(
    Object.entries(autoencoderTinyParameters(autoencoderTinyPresets[preset])).map(([name, { shape }]) => [name, shape]),
  );

describe("TAESD's names", () => {
  it("are elements of a sequence, of which the decoder's first has no parameters", () => {
    // https://github.com/madebyollin/taesd, taesd.py: Encoder and Decoder.
    const { encoder, decoder } = toTaesdNames(shapesOf("taesd"));
    expect(encoder).toMatchObject({
      "0.weight": [64, 3, 3, 3],
      "1.conv.0.weight": [64, 64, 3, 3],
      "2.weight": [64, 64, 3, 3],
      "14.bias": [4],
    });
    expect(decoder).toMatchObject({
      "1.weight": [64, 4, 3, 3],
      "3.conv.4.bias": [64],
      "7.weight": [64, 64, 3, 3],
      "19.weight": [3, 64, 3, 3],
    });
    expect(encoder).not.toHaveProperty(["2.bias"]);
    expect(decoder).not.toHaveProperty(["7.bias"]);
  });

  it.each(["taesd", "taesd3", "taef2"] as const)("come back from diffusers' the same: %s", (preset) => {
    const weights = shapesOf(preset);
    const files = toTaesdNames(weights);
    expect(Object.keys(files.encoder).length + Object.keys(files.decoder).length).toBe(Object.keys(weights).length);
    expect(fromTaesdNames(files)).toEqual(weights);
    expect(toTaesdNames(fromTaesdNames(files))).toEqual(files);
  });

  it("may come from one file alone", () => {
    expect(fromTaesdNames({ decoder: { "1.bias": 1 } })).toEqual({ "decoder.layers.0.bias": 1 });
    expect(fromTaesdNames({ encoder: { "1.conv.0.bias": 1 } })).toEqual({ "encoder.layers.1.conv.0.bias": 1 });
  });

  it.each([
    [() => fromTaesdNames({ decoder: { "0.weight": 1 } }), '"0.weight"'],
    [() => fromTaesdNames({ encoder: { "encoder.layers.0.weight": 1 } }), '"encoder.layers.0.weight"'],
    [() => toTaesdNames({ "quant_conv.weight": 1 }), '"quant_conv.weight"'],
  ])("are refused where they are another model's", (convert, name) => {
    expect(convert).toThrow(
      expect.objectContaining({ code: "UNEXPECTED_PARAMETER", message: expect.stringContaining(name) }),
    );
  });
});
