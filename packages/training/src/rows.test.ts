import { HostTensor } from "@sdxs/tensor";
import { describe, expect, it } from "vitest";
import { takeRows } from "./rows.js";

describe("takeRows", () => {
  it("copies rows in the given order, repeated ones too", () => {
    const tensor = HostTensor.from([3, 2], [0, 1, 2, 3, 4, 5]);
    const taken = takeRows(tensor, [2, 0, 2]);
    expect(taken).toEqual(HostTensor.from([3, 2], [4, 5, 0, 1, 4, 5]));
    taken.data[0] = 9;
    expect(tensor.data[4]).toBe(4);
  });

  it.each([Int32Array, Uint8Array])("keeps the element type of %O", (Data) => {
    const taken = takeRows(new HostTensor([2, 1], Data.of(0, 1)), Int32Array.of(1));
    expect(taken).toEqual(new HostTensor([1, 1], Data.of(1)));
  });
});
