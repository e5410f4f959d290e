import { describe, expect, it } from "vitest";
import { GraphBuilder } from "../graph/builder.js";
import { HostTensor } from "../core/host-tensor.js";
import { fanInUniform, ones } from "../core/initializers.js";
import { convLayer, groupNormLayer, linearLayer } from "./layers.js";
import type { Ops } from "../core/ops.js";
import { checkParameters, mapTensors, prefixed, select } from "../core/parameters.js";
import { declareParameters } from "../graph/declare-parameters.js";
import { scope, type Scope } from "./scope.js";

/** A model with shared, nested and biasless parameters. */
function model<T>(ops: Ops<T>, p: Scope<T>, { image }: { readonly image: T }): T {
  const features = convLayer(ops, p.at("conv_in"), image, 4);
  const block = p.at("blocks").at(0);
  const normalized = groupNormLayer(ops, block.at("norm"), features, 2, 1e-5);
  const once = convLayer(ops, block.at("conv"), normalized, 4, { kernel: 1, bias: false });
  const twice = convLayer(ops, p.at("blocks.0.conv"), once, 4, { kernel: 1, bias: false });
  return linearLayer(ops, p.at("head"), ops.mean(twice, { axes: [2, 3] }), 3);
}

describe("declareParameters", () => {
  it("lists each parameter once, in order of use, with its shape and beginning", () => {
    const specs = declareParameters(model, { image: { shape: [2, 3, 8, 8] } });
    expect(Object.entries(specs).map(([name, { shape }]) => [name, shape])).toEqual([
      ["conv_in.weight", [4, 3, 3, 3]],
      ["conv_in.bias", [4]],
      ["blocks.0.norm.weight", [4]],
      ["blocks.0.norm.bias", [4]],
      ["blocks.0.conv.weight", [4, 4, 1, 1]],
      ["head.weight", [3, 4]],
      ["head.bias", [3]],
    ]);
    expect(specs["conv_in.bias"]?.init).toEqual(fanInUniform(27));
    expect(specs["blocks.0.norm.weight"]?.init).toEqual(ones);
  });
});

describe("scope", () => {
  const builder = new GraphBuilder();
  const weight = builder.input("weight", [4, 8], "float32");
  const params = { "unet.mid.weight": weight };

  it("finds a parameter by its dotted path", () => {
    const root = scope(builder.ops, params);
    expect(root.path).toBe("");
    expect(root.at("unet.mid").path).toBe("unet.mid");
    expect(root.at("unet").at("mid").param("weight", [4, 8], ones)).toBe(weight);
    expect(scope(builder.ops, params, "unet").param("mid.weight", [4, 8], ones)).toBe(weight);
    expect(root.at("blocks").at(3).path).toBe("blocks.3");
  });

  it("names a parameter that is missing", () => {
    expect(() => scope(builder.ops, params).at("unet").param("bias", [4], ones)).toThrow(
      expect.objectContaining({
        code: "MISSING_PARAMETER",
        message: expect.stringContaining('"unet.bias" of shape [4]'),
      }),
    );
  });

  it("names a parameter of another shape, with both shapes", () => {
    expect(() => scope(builder.ops, params).param("unet.mid.weight", [8, 4], ones)).toThrow(
      expect.objectContaining({
        code: "SHAPE_MISMATCH",
        message: expect.stringMatching(/"unet\.mid\.weight" must have shape \[8, 4\].*have \[4, 8\]/),
      }),
    );
  });
});

describe("checkParameters", () => {
  const specs = { weight: { shape: [2, 3] }, bias: { shape: [2] } };

  it("accepts weights of the declared names and shapes", () => {
    expect(() => checkParameters(specs, { bias: { shape: [2] }, weight: { shape: [2, 3] } })).not.toThrow();
  });

  it("lists all that is missing, of another shape or type, or unexpected, at once", () => {
    const weights = { weight: { shape: [3, 2], dtype: "int32" }, constructor: { shape: [1] } };
    expect(() => checkParameters(specs, weights)).toThrow(
      expect.objectContaining({
        code: "MISSING_PARAMETER",
        message: expect.stringContaining(
          "(1 missing, 1 of another shape, 1 of another type, 1 unexpected):\n  missing: bias [2]\n" +
            "  shape: weight must be [2, 3], got [3, 2]\n  type: weight must be float32, got int32\n  unexpected: constructor [1]",
        ),
      }),
    );
    expect(() => checkParameters(specs, { ...specs, weight: { shape: [6] } })).toThrow(
      expect.objectContaining({ code: "SHAPE_MISMATCH" }),
    );
    expect(() => checkParameters(specs, { ...specs, bias: { shape: [2], dtype: "int32" } })).toThrow(
      expect.objectContaining({ code: "DTYPE_MISMATCH" }),
    );
    expect(() => checkParameters(specs, { ...specs, extra: { shape: [] } })).toThrow(
      expect.objectContaining({ code: "UNEXPECTED_PARAMETER" }),
    );
  });
});

describe("parameter records", () => {
  const params = {
    "student.weight": HostTensor.scalar(1),
    "student.bias": HostTensor.scalar(2),
    "teacher.bias": HostTensor.scalar(3),
  };

  it("are selected by prefix and prefixed again", () => {
    const student = select(params, "student.");
    expect(Object.keys(student)).toEqual(["weight", "bias"]);
    expect({ ...prefixed(student, "student."), ...prefixed(select(params, "teacher."), "teacher.") }).toEqual(params);
  });

  it("are mapped by name", () => {
    expect(mapTensors(params, (tensor, name) => `${name}=${tensor.item()}`)).toEqual({
      "student.weight": "student.weight=1",
      "student.bias": "student.bias=2",
      "teacher.bias": "teacher.bias=3",
    });
  });
});
