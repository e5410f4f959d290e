import { createContext, runInContext } from "node:vm";
import { describe, expect, it } from "vitest";
import { sizeOf } from "../../core/host-tensor.js";
import { broadcastLayout, contiguous, merged, placeOf, reshaped, type Layout } from "./view.js";

/** Every element's place, counted out. */
function places({ sizes, strides, offset }: Layout): number[] {
  return Array.from({ length: sizeOf(sizes) }, (_, index) => {
    let rest = index;
    let place = offset;
    for (let axis = sizes.length - 1; axis >= 0; axis--) {
      place += (rest % sizes[axis]!) * strides[axis]!;
      rest = Math.floor(rest / sizes[axis]!);
    }
    return place;
  });
}

/** What WGSL makes of the expression: whole numbers throughout. */
function evaluated(layout: Layout): number[] {
  const expression = placeOf(layout, "index")
    .replace(/(\d+)u/g, "$1")
    .replace(/\(index \/ (\d+)\)/g, "Math.floor(index / $1)");
  const context = createContext({ Math, index: 0 });
  return Array.from({ length: sizeOf(layout.sizes) }, (_, index) => {
    context["index"] = index;
    return runInContext(expression, context) as number;
  });
}

const layouts: Readonly<Record<string, Layout>> = {
  "without gaps": contiguous([2, 3, 4]),
  transposed: { sizes: [4, 2, 3], strides: [1, 12, 4], offset: 0 },
  "broadcast along two axes": broadcastLayout(contiguous([3, 1]), [2, 3, 4]),
  "a slice": { sizes: [2, 2, 4], strides: [12, 4, 1], offset: 4 },
  "of sizes of one": { sizes: [1, 6, 1], strides: [0, 1, 0], offset: 3 },
  "a scalar": contiguous([]),
};

describe("layouts", () => {
  it.each(Object.entries(layouts))("place elements as counting does: %s", (_, layout) => {
    expect(evaluated(layout)).toEqual(places(layout));
    expect(places(merged(layout))).toEqual(places(layout));
  });

  it("take another shape without moving elements, or say that they cannot", () => {
    for (const shape of [[24], [6, 4], [2, 12], [2, 3, 2, 2], [1, 24, 1]]) {
      expect(places(reshaped(contiguous([2, 3, 4]), shape)!)).toEqual(places(contiguous(shape)));
    }
    const { transposed } = layouts;
    expect(places(reshaped(transposed!, [4, 2, 3, 1])!)).toEqual(places(transposed!));
    expect(reshaped(transposed!, [24])).toBeUndefined();
    expect(reshaped(transposed!, [8, 3])).toBeUndefined();
  });
});
