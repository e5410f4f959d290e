import { describe, expect, it } from "vitest";
import { cosine, sine, type SineOps } from "./sine.js";

/** float32, as a GPU computes without extra precision. */
const float32: SineOps<number> = {
  add: (a, b) => Math.fround(a + Math.fround(b)),
  sub: (a, b) => Math.fround(Math.fround(a) - b),
  mul: (a, b) => Math.fround(a * Math.fround(b)),
  floor: Math.floor,
};

describe.each([
  ["sine", sine, Math.sin],
  ["cosine", cosine, Math.cos],
] as const)("%s in float32", (_name, ours, exact) => {
  it.each([Math.PI, 1000, 2 ** 12 * Math.PI])("is within 2e-7 for angles up to %d", (range) => {
    let worst = 0;
    for (let i = -50_000; i <= 50_000; i++) {
      const angle = Math.fround((range * i) / 50_000);
      worst = Math.max(worst, Math.abs(ours(float32, angle) - exact(angle)));
    }
    expect(worst).toBeLessThan(2e-7);
  });

  it("is not a number where the angle is none", () => {
    for (const angle of [NaN, Infinity, -Infinity]) expect(ours(float32, angle)).toBeNaN();
  });
});
