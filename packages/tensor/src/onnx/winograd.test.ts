import * as ort from "onnxruntime-node";
import { describe, expect, it } from "vitest";
import { HostTensor, type Shape } from "../core/host-tensor.js";
import type { Program } from "../core/program.js";
import { random } from "../core/random.js";
import { onnxBackend } from "./backend.js";
import { winogradWeight } from "./winograd.js";

const backend = onnxBackend({ ort });
const channels = 192;
const weightShape = [channels, channels, 3, 3];

async function convolved(
  image: HostTensor,
  weight: HostTensor,
  bias: HostTensor,
  padding: number,
  arrangeParams: boolean,
): Promise<HostTensor> {
  const program: Program<"image", "result"> = (ops, { weight, bias }, { image }) => ({
    result: ops.conv2d(image, weight!, bias, { padding }),
  });
  const params = { weight, bias };
  const compiled = await backend.compile(program, { params, arrangeParams, inputs: { image } });
  const { result } = await compiled.run(compiled.upload(params), { image });
  await compiled.dispose();
  return backend.download(result);
}

describe("a convolution by arranged weights", () => {
  it.each<{ shape: Shape; padding: number }>([
    { shape: [1, channels, 8, 8], padding: 1 },
    { shape: [2, channels, 5, 7], padding: 1 },
    { shape: [1, channels, 6, 4], padding: 0 },
    { shape: [1, channels, 3, 4], padding: 2 },
  ])("equals the one by the weights as they are, for $shape with padding $padding", async ({ shape, padding }) => {
    const image = random(0, "image").normal(shape);
    const weight = random(0, "weight").normal(weightShape);
    const bias = random(0, "bias").normal([channels]);
    const expected = await convolved(image, weight, bias, padding, false);
    const actual = await convolved(image, weight, bias, padding, true);
    expect(actual.shape).toEqual(expected.shape);
    const scale = Math.max(...expected.data.map(Math.abs));
    const worst = Math.max(...expected.data.map((value, i) => Math.abs(value - actual.data[i]!)));
    // Single precision: measured 1e-6 and less for 192 to 1,280 channels.
    expect(worst / scale).toBeLessThan(3e-6);
  });

  it("gives the image itself for a kernel of ones in the middle", async () => {
    const image = random(1, "image").normal([1, channels, 4, 6]);
    const identity = HostTensor.filled(weightShape, 0);
    for (let channel = 0; channel < channels; channel++) identity.data[(channel * channels + channel) * 9 + 4] = 1;
    const { data } = await convolved(image, identity, HostTensor.filled([channels], 0), 1, true);
    data.forEach((value, i) => expect(value).toBeCloseTo(image.data[i]!, 5));
  });

  it("refuses weights that its upload did not give", async () => {
    const weight = HostTensor.filled(weightShape, 0);
    const image = HostTensor.filled([1, channels, 4, 4], 0);
    const program: Program<"image", "result"> = (ops, { weight }, { image }) => ({
      result: ops.conv2d(image, weight!, undefined, {}),
    });
    const compiled = await backend.compile(program, { params: { weight }, arrangeParams: true, inputs: { image } });
    await expect(compiled.run({ weight }, { image })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringMatching(/"weight" was not arranged\. Pass what its upload gave/) as string,
    });
    await compiled.dispose();
  });

  it("takes weights that are consumed, and leaves others", async () => {
    const image = HostTensor.filled([1, channels, 4, 4], 0);
    const program: Program<"image", "result"> = (ops, { weight }, { image }) => ({
      result: ops.conv2d(image, weight!, undefined, {}),
    });
    const weight = HostTensor.filled(weightShape, 0);
    const compiled = await backend.compile(program, { params: { weight }, arrangeParams: true, inputs: { image } });
    compiled.upload({ weight });
    expect(weight.data.length).toBe(channels * channels * 9);
    compiled.upload({ weight }, { consume: true });
    expect(weight.data.length).toBe(0);
    await compiled.dispose();
  });

  it("leaves a weight as it is that something else uses, too", async () => {
    const weight = HostTensor.filled(weightShape, 1);
    const image = HostTensor.filled([1, channels, 4, 4], 1);
    const program: Program<"image", "result" | "sum"> = (ops, { weight }, { image }) => ({
      result: ops.conv2d(image, weight!, undefined, {}),
      sum: ops.sum(weight!),
    });
    const compiled = await backend.compile(program, { params: { weight }, arrangeParams: true, inputs: { image } });
    const { sum } = await compiled.run({ weight }, { image });
    expect((await backend.download(sum)).data[0]).toBe(channels * channels * 9);
    await compiled.dispose();
  });
});

it("winogradWeight is G weight G^T", () => {
  // weight = row^T column with rows [1, 2, 4] and columns [1, 10, 100]: (G row) (G column)^T.
  const weight = new HostTensor([1, 1, 3, 3], Float32Array.of(1, 10, 100, 2, 20, 200, 4, 40, 400));
  const [row, column] = [
    [1, 3.5, 1.5, 4],
    [1, 55.5, 45.5, 100],
  ];
  expect(winogradWeight(weight).shape).toEqual([16, 1, 1]);
  expect([...winogradWeight(weight).data]).toEqual(row.flatMap((r) => column.map((c) => r * c)));
});
