import { describe, expect, it } from "vitest";
import { countArithmetic } from "./arithmetic.js";
import { attention, linear } from "../nn/functional.js";
import { withGradients } from "../optim/gradients.js";
import type { Program } from "../core/program.js";

const FLOAT = 4;

describe("countArithmetic", () => {
  it("counts a matrix product's multiply-adds and the bytes of its operands and result", () => {
    const product: Program = (ops, { w }, { x }) => ({ y: ops.matmul(x!, w!) });
    expect(countArithmetic(product, { w: { shape: [3, 4] } }, { x: { shape: [2, 3] } })).toEqual({
      multiplyAdds: 2 * 3 * 4,
      bytes: (2 * 3 + 3 * 4 + 2 * 4) * FLOAT,
      multiplyAddsOf: { w: 2 * 3 * 4 },
    });
  });

  it("counts a convolution with stride by its results", () => {
    const convolution: Program = (ops, { w }, { x }) => ({
      y: ops.conv2d(x!, w!, undefined, { stride: 2, padding: 1 }),
    });
    const { multiplyAdds } = countArithmetic(
      convolution,
      { w: { shape: [8, 3, 3, 3] } },
      { x: { shape: [2, 3, 16, 16] } },
    );
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
    expect(countArithmetic(twoLayers, specs, inputs).multiplyAdds).toBe(perLayer[0] + perLayer[1]);
    // The first layer's input is data: it needs no gradient.
    const learning = withGradients(twoLayers, ["first", "second"]);
    expect(countArithmetic(learning, specs, inputs).multiplyAdds).toBe(2 * perLayer[0] + 3 * perLayer[1]);
  });

  it("leaves out what no output depends on", () => {
    const unused: Program = (ops, { w }, { x }) => {
      ops.matmul(x!, w!);
      return { y: ops.neg(x!) };
    };
    expect(countArithmetic(unused, { w: { shape: [3, 4] } }, { x: { shape: [2, 3] } })).toEqual({
      multiplyAdds: 0,
      bytes: 0,
      multiplyAddsOf: {},
    });
  });

  it("counts a layer's multiply-adds for its weight, and attention's for the layers before it", () => {
    const program: Program = (ops, { first, query, key, bias }, { x }) => {
      const h = linear(ops, x!, first!, undefined); // [1, 5, 4]
      const q = linear(ops, h, query!, bias);
      const k = linear(ops, h, key!, undefined);
      const heads = (t: typeof q): typeof q => ops.reshape(t, [1, 1, 5, 6]);
      return { y: attention(ops, heads(q), heads(k), heads(k), 0.5) };
    };
    const specs = { first: [4, 3], query: [6, 4], key: [6, 4], bias: [6] };
    const params = Object.fromEntries(Object.entries(specs).map(([name, shape]) => [name, { shape }]));
    const { multiplyAdds, multiplyAddsOf } = countArithmetic(program, params, { x: { shape: [1, 5, 3] } });
    const projection = 5 * 4 * 6;
    const both = 2 * 5 * 5 * 6; // query times key, and its softmax times key
    const { first, query = 0, key = 0, bias = 0 } = multiplyAddsOf;
    expect(first).toBe(5 * 3 * 4);
    expect(query + key + bias).toBe(2 * projection + both);
    expect(multiplyAdds).toBe(5 * 3 * 4 + 2 * projection + both);
  });

  it("finds a weight that is scaled and reshaped before it is used", () => {
    const program: Program = (ops, { kernel, late }, { x }) => {
      const matrix = ops.reshape(ops.mul(kernel!, 0.5), [3, 4]);
      return { y: ops.matmul(ops.mul(x!, late!), matrix) };
    };
    const params = { kernel: { shape: [3, 4, 1, 1] }, late: { shape: [3] } };
    expect(countArithmetic(program, params, { x: { shape: [2, 3] } }).multiplyAddsOf).toEqual({ kernel: 24 });
  });

  it("counts what no parameter has a part in under no name", () => {
    const gram: Program = (ops, _, { x }) => ({ y: ops.matmul(x!, x!, { transposeB: true }) });
    expect(countArithmetic(gram, {}, { x: { shape: [2, 3] } }).multiplyAddsOf).toEqual({ "": 12 });
  });
});
