import * as ort from "onnxruntime-node";
import { describe, expect, it } from "vitest";
import { calibrate } from "../nn/calibration.js";
import type { Calibration, CompileSpec, Program } from "../core/program.js";
import { HostTensor, type Shape } from "../core/host-tensor.js";
import { random } from "../core/random.js";
import { exportOnnx, onnxBackend } from "./backend.js";

const backend = onnxBackend({ ort });
const normal = (shape: Shape, name: string): HostTensor => random(0, name).normal(shape);

async function run(program: Program<"x", "y">, spec: CompileSpec<"x">, x: HostTensor): Promise<HostTensor> {
  const compiled = await backend.compile(program, spec);
  const { y } = await compiled.run({}, { x });
  await compiled.dispose();
  return backend.download(y);
}

/** Root of the mean square of the error, of that of the values. */
function relativeError(actual: HostTensor, expected: HostTensor): number {
  expect(actual.shape).toEqual(expected.shape);
  const sum = (f: (value: number, i: number) => number) =>
    Array.from(expected.data, f).reduce((total, value) => total + value, 0);
  return Math.sqrt(sum((value, i) => (value - actual.data[i]!) ** 2) / sum((value) => value ** 2));
}

describe("8 bits", () => {
  const block: Program<"x", "y"> = (ops, p, { x }) => {
    const h = ops.relu(ops.conv2d(x, p.first!, p.bias, { padding: 1 }));
    const image = ops.add(ops.conv2d(h, p.second!, undefined, { padding: 1 }), x);
    const rows = ops.reshape(ops.transpose(image, [0, 2, 3, 1]), [64, 32]);
    const wide = ops.add(ops.matmul(rows, p.wide!, { transposeB: true }), p.wideBias!);
    return { y: ops.matmul(wide, p.narrow!) };
  };
  const frozen = {
    first: normal([48, 32, 3, 3], "first"),
    bias: normal([48], "bias"),
    second: normal([32, 48, 3, 3], "second"),
    wide: normal([64, 32], "wide"),
    wideBias: normal([64], "wide bias"),
    narrow: normal([64, 16], "narrow"),
  };
  const x = normal([1, 32, 8, 8], "x");
  const spec = { frozen, inputs: { x } };

  it("come within 3% of float32 in convolutions and products, on samples beside the calibration's", async () => {
    const samples = [1, 2, 3, 4].map((seed) => ({ x: random(seed).normal([1, 32, 8, 8]) }));
    const int8 = await calibrate(backend, block, spec, samples);
    expect(Object.keys(int8)).toEqual(["first", "second", "wide", "narrow"]);
    const error = relativeError(await run(block, { ...spec, int8 }, x), await run(block, spec, x));
    // Rounding to a step s has the error s / sqrt 12. Five times 256 steps over +-4 standard deviations: 0.9% each; four
    // weights of 127 steps up to 3 to 4 standard deviations: 0.8% each. Their squares add up to 2.6% squared.
    expect(error).toBeLessThan(0.03);
    expect(error).toBeGreaterThan(1e-4); // they are 8 bits
  });

  it("are what an exported file computes, in standard operators", async () => {
    const int8 = await calibrate(backend, block, spec, [{ x }]);
    const { model } = exportOnnx(block, { ...spec, int8 });
    const session = await ort.InferenceSession.create(model);
    const { y } = await session.run({ x: new ort.Tensor("float32", x.data, x.shape) });
    const expected = await run(block, { ...spec, int8 }, x);
    expect(relativeError(new HostTensor([...y!.dims], y!.data as Float32Array<ArrayBuffer>), expected)).toBeLessThan(
      1e-6,
    );
    // A byte for each weight and not four.
    expect(model.length).toBeLessThan(0.4 * exportOnnx(block, spec).model.length);
  });

  it("are exact where all values are whole steps", async () => {
    const program: Program<"x", "y"> = (ops, { w }, { x }) => ({ y: ops.conv2d(x, w!, undefined, {}) });
    const weight = new HostTensor(
      [16, 16, 1, 1],
      Float32Array.from({ length: 256 }, (_, i) => ((i * 37) % 255) - 127),
    );
    for (let row = 0; row < 16; row++) weight.data[row * 16] = 127; // each channel's step is 1
    const image = new HostTensor(
      [1, 16, 2, 2],
      Float32Array.from({ length: 64 }, (_, i) => (i * 7) % 3),
    );
    const expected = await run(program, { frozen: { w: weight }, inputs: { x: image } }, image);
    const greatest = 255 * Math.ceil(Math.max(...expected.data.map(Math.abs)) / 255);
    const int8: Calibration = { w: { input: [0, 255], output: [-greatest, greatest] } };
    const actual = await run(program, { frozen: { w: weight }, inputs: { x: image }, int8 }, image);
    // Half a step of the result.
    actual.data.forEach((value, i) => expect(Math.abs(value - expected.data[i]!)).toBeLessThanOrEqual(greatest / 255));
  });

  it("leave a weight that something else reads, too, and narrow ones", async () => {
    const program: Program<"x", "y"> = (ops, { w, end }, { x }) => {
      const y = ops.add(ops.conv2d(x, w!, undefined, {}), ops.mul(ops.sum(w!), 0));
      return { y: ops.conv2d(y, end!, undefined, {}) };
    };
    const weights = { w: normal([32, 32, 1, 1], "w"), end: normal([3, 32, 1, 1], "end") };
    const plain = { frozen: weights, inputs: { x } };
    const int8 = await calibrate(backend, program, plain, [{ x }]);
    expect(relativeError(await run(program, { ...plain, int8 }, x), await run(program, plain, x))).toBe(0);
  });
});

describe("calibrate", () => {
  it("notes the ends of what goes into a weight's operations and comes out, over all samples and uses", async () => {
    const program: Program<"x", "y"> = (ops, { w }, { x }) => ({ y: ops.matmul(ops.matmul(x, w!), w!) });
    const spec = { frozen: { w: HostTensor.from([2, 2], [0, -1, 2, 0]) }, inputs: { x: { shape: [1, 2] } } };
    const samples = [HostTensor.from([1, 2], [1, 3]), HostTensor.from([1, 2], [-4, 0])].map((x) => ({ x }));
    // [1, 3] w = [6, -1], times w = [-2, -6]; [-4, 0] w = [0, 4], times w = [8, 0].
    expect(await calibrate(backend, program, spec, samples)).toEqual({ w: { input: [-4, 6], output: [-6, 8] } });
  });
});
