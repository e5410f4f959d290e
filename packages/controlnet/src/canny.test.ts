import { fileURLToPath } from "node:url";
import { HostTensor } from "@sdxs/tensor";
import { readSafetensorsFile } from "@sdxs/tensor/node";
import { describe, expect, it } from "vitest";
import { canny } from "./canny.js";

/** Computed by OpenCV: see fixtures/README.md. */
const { tensors, metadata } = await readSafetensorsFile(
  fileURLToPath(new URL("../fixtures/canny.safetensors", import.meta.url)),
);
type Case = [height: number, width: number, low: number, high: number, l2: boolean];
const cases = JSON.parse(metadata["cases"] ?? "[]") as Case[];

/** Bytes [channels, height, width] as an image of one in [-1, 1]. */
const image = ({ data }: HostTensor, shape: readonly number[]) =>
  HostTensor.from(
    [1, ...shape],
    Float32Array.from(data, (byte) => byte / 127.5 - 1),
  );

describe("canny finds OpenCV's edges, pixel for pixel", () => {
  it.each(cases.map((values, index) => ({ index, values })))("$values", ({ index, values }) => {
    const [height, width, lowThreshold, highThreshold, l2] = values;
    const options = { lowThreshold, highThreshold, norm: l2 ? "L2" : "L1" } as const;
    const tensor = (name: string) => tensors[`${index}.${name}`]!;
    const area = height * width;

    const colour = canny(image(tensor("picture"), [3, height, width]), options);
    expect(colour.shape).toEqual([1, 3, height, width]);
    const expected = Array.from(tensor("edges").data, (byte) => byte / 255);
    for (const channel of [0, 1, 2]) {
      expect([...colour.data.subarray(channel * area, (channel + 1) * area)]).toEqual(expected);
    }

    const green = new HostTensor([height, width], tensor("picture").data.slice(area, 2 * area));
    const gray = canny(image(green, [1, height, width]), options);
    expect([...gray.data.subarray(0, area)]).toEqual(Array.from(tensor("gray_edges").data, (byte) => byte / 255));
  });

  it("in each image of a batch by itself", () => {
    const [first, second] = [tensors["0.picture"]!, tensors["1.picture"]!].map((t) => image(t, [3, 48, 64]));
    const both = HostTensor.from([2, 3, 48, 64], [...first!.data, ...second!.data]);
    expect([...canny(both).data]).toEqual([...canny(first!).data, ...canny(second!).data]);
  });
});

describe("canny refuses", () => {
  it("what is no batch of images", () => {
    expect(() => canny(HostTensor.filled([3, 8, 8], 0))).toThrow(/\[3, 8, 8\]/);
  });

  it.each([
    { lowThreshold: 200, highThreshold: 100 },
    { lowThreshold: -1 },
    { highThreshold: NaN },
    { highThreshold: Infinity },
  ])("thresholds $lowThreshold and $highThreshold", (options) => {
    expect(() => canny(HostTensor.filled([1, 3, 8, 8], 0), options)).toThrow(/lowThreshold/);
  });
});
