import { HostTensor, random, type Ops, type Program } from "@sdxs/tensor";
import { expectGradient, expectOutput, maxAbs, testBackends, type RunOnce } from "@sdxs/tensor/testing";
import { beforeAll, describe, expect, it } from "vitest";
import { gaussianSsim, multiScaleSsim } from "./index.js";
import { expectClose, fixtureTensors, valuesAndGradients, type PerSampleLoss } from "./reference.test-support.js";

const reference = await fixtureTensors("multi-scale-ssim");
const x = reference["x"]!; // [2, 2, 48, 48]
const y = reference["y"]!;
const dataRange = 2;
const standard = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333];

/** The image, repeated along both axes. */
function tiled<T>(ops: Ops<T>, image: T, times: number): T {
  return [2, 3].reduce((row, axis) => ops.concat(Array<T>(times).fill(row), axis), image);
}

describe.each(testBackends)("multi-scale SSIM on $name", (backend) => {
  let run: RunOnce;
  beforeAll(async () => {
    run = await backend.run();
  });

  it.each([
    { name: "three", tiles: 1, options: { dataRange, weights: standard.slice(0, 3) } },
    { name: "five", tiles: 4, options: { dataRange } },
  ])("over $name scales has the values and gradients of PyTorch in float64", async ({ name, tiles, options }) => {
    const loss: PerSampleLoss = (ops, { x, y }) =>
      multiScaleSsim(ops, tiled(ops, x!, tiles), tiled(ops, y!, tiles), options);
    const result = await valuesAndGradients(run, loss, { x, y }, ["x"]);
    expectOutput("values", result["values"], reference[`${name}.values`]);
    const gradient = reference[`${name}.grad.x`]!;
    expectGradient("gradient", result["grad.x"], gradient, maxAbs(gradient));
  });

  it("over one scale of weight 1 is the SSIM under a Gaussian window", async () => {
    // One channel: multi-scale SSIM averages channels last.
    const inputs = { x: HostTensor.from([4, 1, 48, 48], x.data), y: HostTensor.from([4, 1, 48, 48], y.data) };
    const program: Program = (ops, _params, { x, y }) => ({
      one: multiScaleSsim(ops, x!, y!, { dataRange, weights: [1] }),
      single: gaussianSsim(ops, x!, y!, { dataRange }),
    });
    const { one, single } = await run(program, {}, inputs);
    expectClose(one!.data, single!.data, 1e-6);
  });

  it("is 1 for equal images, and 0 without a gradient for opposite ones", async () => {
    const noise = random(1).normal([1, 1, 22, 22]);
    const inputs = { x: noise, sign: HostTensor.from([2, 1, 1, 1], [1, -1]) };
    const loss: PerSampleLoss = (ops, { x, sign }) => {
      const both = ops.mul(x!, ops.mul(sign!, 0)); // [2, 1, 22, 22] of zeros
      return multiScaleSsim(ops, ops.add(x!, both), ops.mul(x!, sign!), { dataRange, weights: [0.4, 0.6] });
    };
    const result = await valuesAndGradients(run, loss, inputs, ["x"]);
    expectClose(result["values"]!.data, [1, 0], 1e-6);
    expectClose(result["grad.x"]!.data, new Float32Array(22 * 22), 1e-5);
  });

  it.each([
    { shape: [1, 1, 160, 176], options: { dataRange }, code: "SHAPE_MISMATCH" }, // 10 pixels at the last scale
    { shape: [1, 1, 184, 176], options: { dataRange }, code: "SHAPE_MISMATCH" }, // divisible by 8 only
    { shape: [1, 176, 176], options: { dataRange }, code: "SHAPE_MISMATCH" },
    { shape: [1, 1, 22, 22], options: { dataRange, weights: [] }, code: "INVALID_ARGUMENT" },
    { shape: [1, 1, 22, 22], options: { dataRange: 0, weights: [1] }, code: "INVALID_ARGUMENT" },
  ])("refuses $shape with $options", async ({ shape, options, code }) => {
    const program: Program = (ops, _params, { x }) => ({ values: multiScaleSsim(ops, x!, x!, options) });
    await expect(run(program, {}, { x: HostTensor.filled(shape, 0) })).rejects.toMatchObject({ code });
  });
});
