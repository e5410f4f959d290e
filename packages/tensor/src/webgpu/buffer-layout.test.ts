import { describe, expect, it } from "vitest";
import { layoutsOf } from "./buffer-layout.js";

const shapes = new Map([
  ["matrix", [16, 9]],
  ["scalar", []],
  ["none", [0]],
  ["large", [1000]],
  ["vector", [64]],
]);

describe("layoutsOf", () => {
  it("lets each parameter begin where a binding may", () => {
    const [layout, ...others] = layoutsOf(shapes, 2 ** 20);
    expect(others).toEqual([]);
    expect(layout!.places.map(({ name, offset }) => [name, offset])).toEqual([
      ["matrix", 0],
      ["scalar", 768],
      ["none", 1024],
      ["large", 1280],
      ["vector", 5376],
    ]);
    expect(layout!.bytes).toBe(5632);
  });

  it("shares out what is more than a buffer holds, and gives a larger parameter one of its own", () => {
    const layouts = layoutsOf(shapes, 1024);
    expect(layouts.map(({ places }) => places.map(({ name }) => name))).toEqual([
      ["matrix", "scalar"],
      ["none"],
      ["large"],
      ["vector"],
    ]);
    expect(layouts.map(({ bytes }) => bytes)).toEqual([1024, 256, 4096, 256]);
  });
});
