import { describe, expect, test } from "vitest";
import { HostTensor } from "./index.js";
import { fromHost, referenceOps as ops, toHost } from "./reference.js";

const tensor = (shape: readonly number[], values: readonly number[]) => fromHost(HostTensor.from(shape, values));
const counting = (shape: readonly number[]) => {
  const size = shape.reduce((product, n) => product * n, 1);
  return tensor(
    shape,
    Array.from({ length: size }, (_, i) => i),
  );
};

describe("referenceOps, against values worked out by hand or printed in tables", () => {
  test("erf has the values of Abramowitz and Stegun, table 7.1", () => {
    const { data } = ops.erf(fromHost(new HostTensor([4], Float32Array.of(0, 0.5, 1, 2))));
    expect(data[0]).toBe(0);
    expect(data[1]).toBeCloseTo(0.5204998778, 10);
    expect(data[2]).toBeCloseTo(0.8427007929, 10);
    expect(data[3]).toBeCloseTo(0.995322265, 9);
    expect([...ops.erf(tensor([2], [-7, -1])).data]).toEqual([-1, -(data[2] as number)]);
  });

  test("binary operations broadcast as in NumPy", () => {
    const sum = ops.add(tensor([2, 1], [10, 20]), tensor([3], [1, 2, 3]));
    expect(sum.shape).toEqual([2, 3]);
    expect([...sum.data]).toEqual([11, 12, 13, 21, 22, 23]);
  });

  test("conv2d is a cross-correlation: the kernel is not flipped", () => {
    const y = ops.conv2d(counting([1, 1, 2, 3]), tensor([1, 1, 1, 2], [1, 10]), tensor([1], [100]));
    expect(y.shape).toEqual([1, 1, 2, 2]);
    expect([...y.data]).toEqual([110, 121, 143, 154]);
  });

  test("conv2d pads [top, bottom, left, right] with zeros and moves by its stride", () => {
    const y = ops.conv2d(counting([1, 1, 2, 2]), tensor([1, 1, 1, 1], [1]), undefined, {
      stride: 2,
      padding: [0, 1, 1, 2],
    });
    // Rows 0 and 2 (padding), columns -1 (padding), 1 and 3 (padding).
    expect(y.shape).toEqual([1, 1, 2, 3]);
    expect([...y.data]).toEqual([0, 1, 0, 0, 0, 0]);
  });

  test("matmul multiplies the last two axes and exchanges them on demand", () => {
    const a = tensor([2, 2], [1, 2, 3, 4]);
    const b = tensor([1, 2, 2], [5, 6, 7, 8]);
    expect([...ops.matmul(a, b).data]).toEqual([19, 22, 43, 50]);
    expect([...ops.matmul(a, b, { transposeA: true }).data]).toEqual([26, 30, 38, 44]);
    expect([...ops.matmul(a, b, { transposeB: true }).data]).toEqual([17, 23, 39, 53]);
    expect(ops.matmul(a, b).shape).toEqual([1, 2, 2]);
  });

  test("reductions keep or drop their axes; no axes reduce nothing", () => {
    const x = counting([2, 3]);
    expect([...ops.sum(x, { axes: [0] }).data]).toEqual([3, 5, 7]);
    expect([...ops.mean(x, { axes: [-1] }).data]).toEqual([1, 4]);
    expect(ops.max(x, { axes: [1], keepDims: true }).shape).toEqual([2, 1]);
    expect(ops.max(x).shape).toEqual([]);
    expect([...ops.sum(x, { axes: [] }).data]).toEqual([...x.data]);
  });

  test("softmax sums to one and does not overflow", () => {
    const { data } = ops.softmax(tensor([2, 2], [1000, 1000, 0, Math.log(3)]), 1);
    expect(data[0]).toBe(0.5);
    expect(data[3]).toBeCloseTo(0.75, 7);
  });

  test("argMax gives the first of equal elements", () => {
    const y = ops.argMax(tensor([2, 3], [1, 7, 7, 3, 2, 1]), -1);
    expect(y.dtype).toBe("int32");
    expect([...y.data]).toEqual([1, 0]);
  });

  test("pooling and resizing look at the pixels that their definitions name", () => {
    const x = counting([1, 1, 2, 4]);
    expect([...ops.avgPool2d(x, 2).data]).toEqual([2.5, 4.5]);
    expect([...ops.maxPool2d(x, 2).data]).toEqual([5, 7]);
    // floor(i * 4 / 3) = 0, 1, 2
    expect([...ops.resizeNearest(x, [1, 3]).data]).toEqual([0, 1, 2]);
  });

  test("shape moves put each element where NumPy does", () => {
    const x = counting([2, 3]);
    expect([...ops.transpose(x, [1, 0]).data]).toEqual([0, 3, 1, 4, 2, 5]);
    expect([...ops.concat([x, x], 1).data]).toEqual([0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5]);
    expect([...ops.slice(x, 1, 1, 2).data]).toEqual([1, 2, 4, 5]);
    const padded = ops.pad(x, [
      [0, 1],
      [1, 0],
    ]);
    expect([...padded.data]).toEqual([0, 0, 1, 2, 0, 3, 4, 5, 0, 0, 0, 0]);
    const indices = fromHost(new HostTensor([2], Int32Array.of(2, 0)));
    expect([...ops.gather(x, indices, 1).data]).toEqual([2, 0, 5, 3]);
    expect(ops.reshape(x, [-1, 2]).shape).toEqual([3, 2]);
  });

  test("casting to bool keeps what is not zero, casting to int32 truncates", () => {
    const x = tensor([3], [0.5, 0, -1.5]);
    expect(toHost(ops.cast(x, "bool")).data).toEqual(Uint8Array.of(1, 0, 1));
    expect(toHost(ops.cast(x, "int32")).data).toEqual(Int32Array.of(0, 0, -1));
  });

  test("there are no gradients", () => {
    expect(() => ops.valueAndGrad(() => ({ loss: ops.scalar(1), aux: {} }), {})).toThrow(
      expect.objectContaining({ code: "UNSUPPORTED_OPERATION" }),
    );
  });
});
