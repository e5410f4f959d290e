import { describe, expect, it } from "vitest";
import { HostTensor, sizeOf } from "./host-tensor.js";

describe("HostTensor", () => {
  it("takes its element type from its data", () => {
    expect(new HostTensor([2], new Float32Array(2)).dtype).toBe("float32");
    expect(new HostTensor([2], new Int32Array(2)).dtype).toBe("int32");
    expect(new HostTensor([2], new Uint8Array(2)).dtype).toBe("bool");
  });

  it("is made of numbers, of one number, or of a scalar", () => {
    expect(HostTensor.from([2, 1], [0.5, 2]).data).toEqual(Float32Array.of(0.5, 2));
    expect(HostTensor.filled([3], 7).data).toEqual(Float32Array.of(7, 7, 7));
    expect(HostTensor.scalar(4)).toMatchObject({ shape: [], dtype: "float32" });
    expect(HostTensor.scalar(4).item()).toBe(4);
  });

  it("may have axes of size 0", () => {
    expect(sizeOf([])).toBe(1);
    expect(sizeOf([2, 0, 3])).toBe(0);
    expect(new HostTensor([2, 0, 3], new Float32Array(0)).data.length).toBe(0);
  });

  it("refuses data that do not fill the shape, and shapes that are none", () => {
    const mismatch = expect.objectContaining({ code: "SHAPE_MISMATCH" });
    expect(() => HostTensor.from([2, 2], [1, 2, 3])).toThrow(mismatch);
    expect(() => HostTensor.from([2, 2], [1, 2, 3])).toThrow("shape [2, 2] needs 4 elements, the data has 3");
    expect(() => HostTensor.from([-1, -1], [1])).toThrow(mismatch);
    expect(() => HostTensor.from([0.5, 2], [1])).toThrow(mismatch);
    expect(() => HostTensor.from([2], [1, 2]).item()).toThrow(mismatch);
  });
});
