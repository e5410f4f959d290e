import { withGradients, type Program } from "@sdxs/tensor";
import { describe, expect, it } from "vitest";
import { adamWBytes, arithmetic } from "./arithmetic.js";

const FLOAT = 4;

describe("arithmetic", () => {
  it("counts a matrix product's multiply-adds and the bytes of its operands and result", () => {
    const product: Program = (ops, { w }, { x }) => ({ y: ops.matmul(x!, w!) });
    expect(arithmetic(product, { w: { shape: [3, 4] } }, { x: { shape: [2, 3] } })).toEqual({
      multiplyAdds: 2 * 3 * 4,
      bytes: (2 * 3 + 3 * 4 + 2 * 4) * FLOAT,
    });
  });

  it("counts a convolution with stride by its results", () => {
    const convolution: Program = (ops, { w }, { x }) => ({
      y: ops.conv2d(x!, w!, undefined, { stride: 2, padding: 1 }),
    });
    const { multiplyAdds } = arithmetic(convolution, { w: { shape: [8, 3, 3, 3] } }, { x: { shape: [2, 3, 16, 16] } });
    expect(multiplyAdds).toBe(2 * 8 * 8 * 8 * (3 * 3 * 3));
  });

  it("counts three times the forward pass for a layer whose input and weight both need gradients", () => {
    const specs = { first: { shape: [5, 3, 3, 3] }, second: { shape: [7, 5, 3, 3] } };
    const inputs = { x: { shape: [2, 3, 6, 6] } };
    const twoLayers: Program = (ops, { first, second }, { x }) => {
      const hidden = ops.conv2d(x!, first!, undefined, { padding: 1 });
      return { loss: ops.mean(ops.square(ops.conv2d(hidden, second!, undefined, { padding: 1 }))) };
    };
    const perLayer = [2 * 36 * 5 * 27, 2 * 36 * 7 * 45] as const;
    expect(arithmetic(twoLayers, specs, inputs).multiplyAdds).toBe(perLayer[0] + perLayer[1]);
    // The first layer's input is data: it needs no gradient.
    const learning = withGradients(twoLayers, ["first", "second"]);
    expect(arithmetic(learning, specs, inputs).multiplyAdds).toBe(2 * perLayer[0] + 3 * perLayer[1]);
  });

  it("leaves out what no output depends on", () => {
    const unused: Program = (ops, { w }, { x }) => {
      ops.matmul(x!, w!);
      return { y: ops.neg(x!) };
    };
    expect(arithmetic(unused, { w: { shape: [3, 4] } }, { x: { shape: [2, 3] } })).toEqual({
      multiplyAdds: 0,
      bytes: 0,
    });
  });
});

describe("adamWBytes", () => {
  it("is four arrays read and three written", () => {
    expect(adamWBytes(10)).toBe(10 * 7 * FLOAT);
  });
});
